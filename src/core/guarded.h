// The line that no exception crosses.
#pragma once

#include <exception>
#include <new>

#include "fusedmlp/status.h"

namespace fusedmlp::core {

// body(), whose result is made from a Status (Status itself or a Result), with exceptions turned into one.
template <class Body>
auto guarded(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::out_of_memory, "", "memory allocation failed");
  } catch (const std::exception& error) {
    return Status(StatusCode::internal, "", error.what());
  }
}

}  // namespace fusedmlp::core
