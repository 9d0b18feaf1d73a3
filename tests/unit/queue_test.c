#include "queue_fixture.h"

int main(void) {
  return queue_insert_tests() + queue_lease_tests() + queue_silent_tests() + queue_lost_tests() +
         queue_time_tests() + queue_rules_tests() + queue_call_rules_tests();
}
