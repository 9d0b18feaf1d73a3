# pf_embed_files(TARGET FILE...): makes the files part of the target, as the table of base/embedded.h.
# The source of the table is written at build time, by this file run as a script.
function(pf_embed_files target)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${target}_embedded.c)
  set(files)
  foreach(file IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH file NORMALIZE)
    list(APPEND files ${file})
  endforeach()
  add_custom_command(OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -D OUTPUT=${source} -D "FILES=${files}" -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    COMMENT "Embedding files into ${target}" VERBATIM)
  target_sources(${target} PRIVATE ${source})
endfunction()

function(pf_write_embedded)
  set(mime_html "text/html; charset=utf-8")
  set(mime_css "text/css; charset=utf-8")
  set(mime_js "text/javascript; charset=utf-8")
  set(mime_mjs "text/javascript; charset=utf-8")
  set(mime_svg "image/svg+xml")
  set(arrays)
  set(rows)
  set(count 0)
  foreach(file IN LISTS FILES)
    cmake_path(GET file FILENAME name)
    cmake_path(GET file EXTENSION LAST_ONLY extension)
    string(REPLACE "." "" extension "${extension}")
    if(NOT mime_${extension})
      message(FATAL_ERROR "embed: no media type is known for ${file}")
    endif()
    set(path "/${name}")
    if(name STREQUAL "index.html")
      set(path "/")
    endif()
    file(SHA256 ${file} hash)
    string(SUBSTRING ${hash} 0 16 etag)
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
    string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" bytes "${bytes}")
    string(APPEND arrays "static const unsigned char file_${count}[] = {\n${bytes}\n};\n")
    string(APPEND rows
      "  {\"${path}\", \"${mime_${extension}}\", \"\\\"${etag}\\\"\", file_${count}, sizeof(file_${count})},\n")
    math(EXPR count "${count} + 1")
  endforeach()
  file(WRITE ${OUTPUT} "#include \"base/embedded.h\"\n\n${arrays}
const struct pf_embedded_file pf_embedded_files[] = {\n${rows}};
const size_t pf_embedded_count = ${count};\n")
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  pf_write_embedded()
endif()
