#include "hop_tests.h"

int main(void) {
  return hop_round_trip_tests() + hop_refusal_tests();
}
