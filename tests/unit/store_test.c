#include "store_fixture.h"

int main(void) {
  return store_commit_tests() + store_file_tests() + store_log_tests();
}
