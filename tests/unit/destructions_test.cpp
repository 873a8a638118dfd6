#include "pkcs11/destructions.hpp"
#include "support/catch.hpp"

using hsmseal::pkcs11::Destructions;

TEST_CASE("a destroyed handle is known to whoever found it before, and to nobody else") {
  Destructions destructions;
  CHECK(destructions.count() == 0);
  CHECK_FALSE(destructions.happened_to(7, 0));
  destructions.add(7);
  CHECK(destructions.count() == 1);
  CHECK(destructions.happened_to(7, 0));
  CHECK_FALSE(destructions.happened_to(8, 0));
  // A key that got the same number afterwards.
  CHECK_FALSE(destructions.happened_to(7, destructions.count()));
  destructions.add(8);
  CHECK_FALSE(destructions.happened_to(7, 1));
  CHECK(destructions.happened_to(8, 1));
  destructions.add(7);
  CHECK(destructions.happened_to(7, 1));
  CHECK(destructions.happened_to(7, 2));
  CHECK_FALSE(destructions.happened_to(7, 3));
}
