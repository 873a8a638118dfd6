#pragma once

#include "sql/dialect.hpp"

namespace hsmseal::sql {

/// Makes the tables, or changes them to those of this version of hsmseal. Several processes may come at once.
/// @throws StoreError        they were made by a newer hsmseal, or are no longer whole.
/// @throws soci::soci_error
void bring_up_to_date(soci::session& session, const Dialect& dialect);

}  // namespace hsmseal::sql
