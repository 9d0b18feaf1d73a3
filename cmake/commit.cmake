cmake_minimum_required(VERSION 3.25)
# Run at each build: writes OUT only if the commit has changed, so that nothing is built anew for nothing.
execute_process(COMMAND git describe --always --abbrev=10 --dirty=+ --exclude=*
  WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#include \"clients/measure/build_info.h\"

const char *build_commit(void) {
  return \"@commit@\";
}
" @ONLY)
