#include "cli/environment.h"

#include <cstdlib>

#include "cli/command.h"

namespace fusedmlp::cli {

ScopedVariable::ScopedVariable(std::string name, const char* value) : name_(std::move(name)) {
  if (const char* before = std::getenv(name_.c_str())) before_ = before;
  if (value != nullptr) {
    ::setenv(name_.c_str(), value, 1);
  } else {
    ::unsetenv(name_.c_str());
  }
}

ScopedVariable::~ScopedVariable() {
  if (before_) {
    ::setenv(name_.c_str(), before_->c_str(), 1);
  } else {
    ::unsetenv(name_.c_str());
  }
}

std::vector<Isa> available_isas() {
  std::vector<Isa> out;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const ScopedVariable forced("FUSEDMLP_ISA", to_string(isa));
    if (describe(Device::cpu())) out.push_back(isa);
  }
  return out;
}

DeviceInfo describe_as(Isa isa) {
  const ScopedVariable forced("FUSEDMLP_ISA", to_string(isa));
  return take(describe(Device::cpu()));
}

}  // namespace fusedmlp::cli
