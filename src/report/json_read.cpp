// Reads an analysis back from its JSON: to compare saved ones, and to lay one out again.
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <array>
#include <stdexcept>

#include "core/format.h"
#include "core/guarded.h"
#include "core/text.h"
#include "fusedmlp/report.h"
#include "report/json.h"

namespace fusedmlp {
namespace {

// Ends the reading with this message; caught where the document was parsed.
using Wrong = std::invalid_argument;

using Value = rapidjson::Value;

// An object of the document and how it is called in messages.
class Object {
 public:
  Object(const Value& value, std::string where) : value_(value), where_(std::move(where)) {
    if (!value.IsObject()) throw Wrong(core::format("{} must be an object", where_));
  }

  // Null where the member is absent or null: what a trace does not say.
  const Value* find(const char* name) const {
    const auto member = value_.FindMember(name);
    return member == value_.MemberEnd() || member->value.IsNull() ? nullptr : &member->value;
  }
  [[noreturn]] void wrong(const char* name, const char* accepted) const {
    throw Wrong(core::format("{}.{} must be {}", where_, name, accepted));
  }

  void read(const char* name, std::string& out) const {
    if (const Value* v = find(name)) {
      if (!v->IsString()) wrong(name, "a text");
      out.assign(v->GetString(), v->GetStringLength());
    }
  }
  void read(const char* name, double& out) const {
    if (const Value* v = find(name)) {
      if (!v->IsNumber()) wrong(name, "a number");
      out = v->GetDouble();
    }
  }
  void read(const char* name, std::int64_t& out) const {
    if (const Value* v = find(name)) {
      if (!v->IsInt64()) wrong(name, "a whole number");
      out = v->GetInt64();
    }
  }
  void read(const char* name, bool& out) const {
    if (const Value* v = find(name)) {
      if (!v->IsBool()) wrong(name, "true or false");
      out = v->GetBool();
    }
  }
  template <class T>
  void read(const char* name, std::optional<T>& out) const {
    if (find(name) == nullptr) return;
    T value{};
    read(name, value);
    out = std::move(value);
  }
  void read(const char* name, std::optional<std::int64_t> (&out)[3]) const {
    const Value* v = find(name);
    if (v == nullptr) return;
    if (!v->IsArray() || v->Size() != 3) wrong(name, "three whole numbers");
    for (rapidjson::SizeType i = 0; i < 3; ++i) {
      if (!(*v)[i].IsInt64()) wrong(name, "three whole numbers");
      out[i] = (*v)[i].GetInt64();
    }
  }
  // The name of an enumerator among `values`; its position there.
  template <class E, std::size_t N>
  void read(const char* name, E& out, const std::array<E, N>& values) const {
    std::string text;
    read(name, text);
    if (text.empty()) return;
    for (const E value : values) {
      if (text == to_string(value)) {
        out = value;
        return;
      }
    }
    throw Wrong(core::format("{}.{} is {}, which is not known", where_, name, core::quoted(text)));
  }
  // each(element, "where.name[i]") for an array that may be absent.
  template <class Each>
  void elements(const char* name, Each&& each) const {
    const Value* v = find(name);
    if (v == nullptr) return;
    if (!v->IsArray()) wrong(name, "an array");
    for (rapidjson::SizeType i = 0; i < v->Size(); ++i) {
      each((*v)[i], core::format("{}.{}[{}]", where_, name, i));
    }
  }
  Object member(const char* name) const {
    const Value* v = find(name);
    if (v == nullptr) throw Wrong(core::format("{}.{} is missing", where_, name));
    return Object(*v, core::format("{}.{}", where_, name));
  }

 private:
  const Value& value_;
  std::string where_;
};

void read_breakdown(const Object& object, Breakdown& out) {
  if (object.find("breakdown") == nullptr) return;
  const Object from = object.member("breakdown");
  from.read("gemm_us", out.gemm_us);
  from.read("intermediate_us", out.intermediate_us);
  from.read("other_us", out.other_us);
  from.read("launch_gap_us", out.launch_gap_us);
  from.read("sync_gap_us", out.sync_gap_us);
  from.read("warmup_gap_us", out.warmup_gap_us);
  from.read("other_gap_us", out.other_gap_us);
}

MlpKernel read_kernel(const Object& from) {
  constexpr std::array kRoles{Role::gate, Role::up,   Role::gate_up, Role::activation, Role::multiply, Role::down,
                              Role::bias, Role::cast, Role::reduce,  Role::routing,    Role::other};
  MlpKernel out;
  from.read("name", out.name);
  from.read("decoded", out.decoded);
  from.read("role", out.role, kRoles);
  from.read("start_us", out.start_us);
  from.read("us", out.us);
  from.read("gap_us", out.gap_us);
  from.read("occupancy", out.occupancy);
  from.read("grid", out.grid);
  from.read("block", out.block);
  return out;
}

MlpRow read_row(const Object& from) {
  MlpRow out;
  from.read("kind", out.kind);
  from.read("gated", out.gated);
  from.read("tokens", out.tokens);
  from.read("d_in", out.d_in);
  from.read("d_hidden", out.d_hidden);
  from.read("d_out", out.d_out);
  from.read("dtype", out.dtype);
  from.read("bias", out.bias);
  from.read("phase", out.phase, std::array{Phase::forward, Phase::backward});
  from.read("instances", out.instances);
  from.read("launches_per_instance", out.launches_per_instance);
  from.read("us_per_instance", out.us_per_instance);
  from.read("span_us_per_instance", out.span_us_per_instance);
  from.read("gap_us_per_instance", out.gap_us_per_instance);
  from.read("experts", out.experts);
  from.read("top_k", out.top_k);
  from.read("confidence", out.confidence);
  if (from.find("regime") != nullptr) {
    out.regime.emplace();
    from.read("regime", *out.regime, std::array{Regime::overhead, Regime::memory, Regime::compute});
  }
  from.read("verdict", out.verdict, std::array{Verdict::fuse, Verdict::do_not_fuse});
  from.read("predicted_us", out.predicted_us);
  from.read("hypothetical_us", out.hypothetical_us);
  from.read("baseline_us", out.baseline_us);
  from.read("limit_us", out.limit_us);
  from.read("prediction_basis", out.prediction_basis);
  from.read("reason", out.reason);
  read_breakdown(from, out.breakdown);
  from.elements("starts_us", [&](const Value& value, const std::string& where) {
    if (!value.IsNumber()) throw Wrong(where + " must be a number");
    out.starts_us.push_back(value.GetDouble());
  });
  from.elements("kernels", [&](const Value& value, const std::string& where) {
    out.kernels.push_back(read_kernel(Object(value, where)));
  });
  return out;
}

Analysis read_all(const Object& root) {
  Analysis out;
  const Object trace = root.member("trace");
  trace.read("path", out.path);
  trace.read("device", out.device);
  trace.read("kernels", out.kernels);
  trace.read("memcpys", out.memcpys);
  trace.read("memsets", out.memsets);
  trace.read("steps", out.steps);
  trace.elements("warnings", [&](const Value& value, const std::string& where) {
    if (!value.IsString()) throw Wrong(where + " must be a text");
    out.warnings.emplace_back(value.GetString(), value.GetStringLength());
  });
  if (root.find("device_used") != nullptr) {
    const Object used = root.member("device_used");
    used.read("name", out.used.name);
    used.read("peak_flops", out.used.peak_flops);
    used.read("peak_bandwidth", out.used.peak_bandwidth);
    used.read("basis", out.used.basis);
    used.read("target", out.used.target);
  }
  const Object summary = root.member("summary");
  summary.read("gpu_busy_us", out.gpu_busy_us);
  summary.read("gpu_span_us", out.gpu_span_us);
  summary.read("mlp_us", out.mlp_us);
  summary.read("predicted_saving_us", out.predicted_saving_us);
  read_breakdown(summary, out.breakdown);
  root.elements("mlps", [&](const Value& value, const std::string& where) {
    out.mlps.push_back(read_row(Object(value, where)));
  });
  root.elements("totals", [&](const Value& value, const std::string& where) {
    const Object from(value, where);
    NameTotal total;
    from.read("name", total.name);
    from.read("decoded", total.decoded);
    from.read("count", total.count);
    from.read("us", total.us);
    out.totals.push_back(std::move(total));
  });
  return out;
}

Result<Analysis> refuse(std::string message) {
  return Status(StatusCode::invalid_argument, "json", std::move(message));
}

}  // namespace

Analysis report::read_analysis_object(const rapidjson::Value& value) {
  const Object root(value, "analysis");
  std::string schema;
  root.read("schema", schema);
  if (schema != kAnalysisSchema) {
    throw Wrong(core::format("has the schema {}, accepted: \"{}\"", core::quoted(schema), kAnalysisSchema));
  }
  return read_all(root);
}

inline namespace v0 {

Result<Analysis> read_analysis(std::string_view json) {
  return core::guarded([&]() -> Result<Analysis> {
    constexpr unsigned kFlags =
        rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag | rapidjson::kParseFullPrecisionFlag;
    rapidjson::Document document;
    document.Parse<kFlags>(json.data(), json.size());
    if (document.HasParseError()) {
      return refuse(core::format("is not JSON: {} (byte {})", rapidjson::GetParseError_En(document.GetParseError()),
                                 document.GetErrorOffset()));
    }
    try {
      return report::read_analysis_object(document);
    } catch (const Wrong& wrong) {
      return refuse(wrong.what());
    }
  });
}

}  // namespace v0
}  // namespace fusedmlp
