// Environment variables, and what they make of this machine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fusedmlp/device.h"

namespace fusedmlp::cli {

// Sets a variable (nullptr: removes it) and puts the old value back at the end of the scope. The environment is the
// process's: use before threads run.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const char* value);
  ~ScopedVariable();
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  std::string name_;
  std::optional<std::string> before_;
};

struct Variable {
  const char* name;
  const char* meaning;
};

inline constexpr Variable kVariables[] = {
    {"FUSEDMLP_ISA", "use generic, avx2, avx512 or amx instead of the best class of this CPU"},
    {"FUSEDMLP_KERNEL", "force one registry entry, by name"},
    {"FUSEDMLP_NUM_THREADS", "threads of the library's own pool"},
    {"FUSEDMLP_TUNED", "the tuned table's file; off or empty: none"},
};

// The instruction-set classes that this CPU can run, whatever FUSEDMLP_ISA says; slowest first.
std::vector<Isa> available_isas();

// What describe() says with this class forced.
DeviceInfo describe_as(Isa isa);

}  // namespace fusedmlp::cli
