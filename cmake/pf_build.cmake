# The one place where compiler and linker flags live. Every target links pf_build.
add_library(pf_build INTERFACE)
target_compile_features(pf_build INTERFACE c_std_11)
set(CMAKE_C_EXTENSIONS ON)
target_include_directories(pf_build INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/lib)
target_compile_definitions(pf_build INTERFACE _GNU_SOURCE PF_VERSION="${PROJECT_VERSION}")
target_compile_options(pf_build INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
  -Wformat=2 -Wundef -Wvla -fstack-protector-strong -fPIE)
target_link_options(pf_build INTERFACE -pie -Wl,-z,relro,-z,now)

if(CMAKE_BUILD_TYPE STREQUAL "Release")
  # -D_FORTIFY_SOURCE needs optimisation, and sanitizers do not go with it.
  target_compile_options(pf_build INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
if(PF_FAULTS)
  target_compile_definitions(pf_build INTERFACE PF_FAULTS=1)
endif()
if(PF_FUZZ)
  # Everything reports its coverage, so that the fuzzer sees into the libraries.
  target_compile_options(pf_build INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(pf_build INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(PF_SANITIZE)
  target_compile_options(pf_build INTERFACE
    -fsanitize=${PF_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(pf_build INTERFACE -fsanitize=${PF_SANITIZE})
endif()

# pf_executable(NAME SOURCES ... LIBS ...): a program with the flags of pf_build.
function(pf_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE pf_build ${arg_LIBS})
endfunction()
