#include "trace/assess.h"

namespace fusedmlp::trace {

struct Assessor::State {
  AnalyzedDevice used;
};

Assessor::Assessor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Assessor::Assessor(Assessor&&) noexcept = default;
Assessor& Assessor::operator=(Assessor&&) noexcept = default;
Assessor::~Assessor() = default;

Result<Assessor> Assessor::create(const Trace&, const Joined&, const AnalyzeOptions&) {
  return Assessor(std::make_unique<State>());
}

const AnalyzedDevice& Assessor::used() const { return state_->used; }

void Assessor::assess(const std::vector<const Instance*>&, MlpRow&) const {}

std::optional<double> Assessor::occupancy(const Event&) const { return {}; }

}  // namespace fusedmlp::trace
