// The names of the analysis' enumerators, as JSON and reports write them.
#include "fusedmlp/analysis.h"

namespace fusedmlp {
inline namespace v0 {

const char* to_string(Phase phase) noexcept { return phase == Phase::backward ? "backward" : "forward"; }

const char* to_string(Regime regime) noexcept {
  switch (regime) {
    case Regime::overhead: return "overhead";
    case Regime::memory: return "memory";
    case Regime::compute: return "compute";
  }
  return "?";
}

const char* to_string(Verdict verdict) noexcept { return verdict == Verdict::fuse ? "fuse" : "do-not-fuse"; }

const char* to_string(Role role) noexcept {
  switch (role) {
    case Role::gate: return "gate";
    case Role::up: return "up";
    case Role::gate_up: return "gate_up";
    case Role::activation: return "activation";
    case Role::multiply: return "multiply";
    case Role::down: return "down";
    case Role::bias: return "bias";
    case Role::cast: return "cast";
    case Role::reduce: return "reduce";
    case Role::routing: return "routing";
    case Role::other: return "other";
  }
  return "?";
}

}  // namespace v0
}  // namespace fusedmlp
