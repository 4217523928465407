#include <cmath>
#include <utility>

#include "fusedmlp/plan.h"
#include "fusedmlp/report.h"
#include "report/figures.h"
#include "report/json.h"
#include "report/wording.h"

namespace fusedmlp {
namespace report {
namespace {

void put_slices(Json& json, const Breakdown& breakdown) {
  json.key("breakdown");
  json.start_object();
  json.put("gemm_us", breakdown.gemm_us);
  json.put("intermediate_us", breakdown.intermediate_us);
  json.put("other_us", breakdown.other_us);
  json.put("launch_gap_us", breakdown.launch_gap_us);
  json.put("sync_gap_us", breakdown.sync_gap_us);
  json.put("warmup_gap_us", breakdown.warmup_gap_us);
  json.put("other_gap_us", breakdown.other_gap_us);
  json.end_object();
}

void put_extent(Json& json, const char* name, const std::optional<std::int64_t> (&extent)[3]) {
  json.key(name);
  if (!extent[0] || !extent[1] || !extent[2]) return json.null();
  json.start_array();
  for (const auto& size : extent) json.number(static_cast<double>(*size));
  json.end_array();
}

void put_kernel(Json& json, const MlpKernel& kernel) {
  json.start_object();
  json.put("name", kernel.name);
  json.put("decoded", kernel.decoded);
  json.put("role", to_string(kernel.role));
  json.put("start_us", kernel.start_us);
  json.put("us", kernel.us);
  json.put("gap_us", kernel.gap_us);
  json.put("occupancy", kernel.occupancy);
  put_extent(json, "grid", kernel.grid);
  put_extent(json, "block", kernel.block);
  json.end_object();
}

void put_row(Json& json, const MlpRow& row) {
  json.start_object();
  json.put("kind", row.kind);
  json.put("gated", row.gated);
  json.put("tokens", row.tokens);
  json.put("d_in", row.d_in);
  json.put("d_hidden", row.d_hidden);
  json.put("d_out", row.d_out);
  json.put("dtype", row.dtype);
  json.put("bias", row.bias);
  json.put("phase", to_string(row.phase));
  json.put("instances", row.instances);
  json.put("launches_per_instance", row.launches_per_instance);
  json.put("us_per_instance", row.us_per_instance);
  json.put("span_us_per_instance", row.span_us_per_instance);
  json.put("gap_us_per_instance", row.gap_us_per_instance);
  json.put("experts", row.experts);
  json.put("top_k", row.top_k);
  json.put("confidence", row.confidence);
  json.key("regime");
  row.regime ? json.text(to_string(*row.regime)) : json.null();
  json.put("verdict", to_string(row.verdict));
  json.put("predicted_us", row.predicted_us);
  json.put("hypothetical_us", row.hypothetical_us);
  json.put("baseline_us", row.baseline_us);
  json.put("limit_us", row.limit_us);
  json.put("prediction_basis", row.prediction_basis);
  json.put("reason", row.reason);
  json.put("flops", flops(row));
  json.put("least_bytes", least_bytes(row));
  json.put("modelled_bytes", modelled_bytes(row));
  put_slices(json, row.breakdown);
  json.key("starts_us");
  json.start_array();
  for (const double start : row.starts_us) json.number(start);
  json.end_array();
  json.key("kernels");
  json.start_array();
  for (const MlpKernel& kernel : row.kernels) put_kernel(json, kernel);
  json.end_array();
  json.end_object();
}

void put_texts(Json& json, const char* name, const std::vector<std::string>& texts) {
  json.key(name);
  json.start_array();
  for (const std::string& text : texts) json.text(text);
  json.end_array();
}

void put_summary(Json& json, const Analysis& analysis) {
  json.key("summary");
  json.start_object();
  json.put("gpu_busy_us", analysis.gpu_busy_us);
  json.put("gpu_span_us", analysis.gpu_span_us);
  json.put("mlp_us", analysis.mlp_us);
  json.put("predicted_saving_us", analysis.predicted_saving_us);
  put_slices(json, analysis.breakdown);
  json.put("headline", headline(analysis));
  put_texts(json, "text", summary(analysis));
  json.key("advice");
  json.start_array();
  for (const Advice& item : advice(analysis)) {
    json.start_object();
    json.key("mlps");  // indices into the rows
    json.start_array();
    for (const std::size_t row : item.rows) json.number(static_cast<double>(row));
    json.end_array();
    json.put("title", item.title);
    json.put("text", item.text);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

// What there is to say about a trace beside its rows: members of the object that is open.
void put_head(Json& json, const Analysis& analysis) {
  json.key("trace");
  json.start_object();
  json.put("path", analysis.path);
  json.put("device", analysis.device);
  json.put("kernels", analysis.kernels);
  json.put("memcpys", analysis.memcpys);
  json.put("memsets", analysis.memsets);
  json.put("steps", analysis.steps);
  put_texts(json, "warnings", analysis.warnings);
  json.end_object();
  json.key("device_used");
  json.start_object();
  json.put("name", analysis.used.name);
  json.put("peak_flops", analysis.used.peak_flops);
  json.put("peak_bandwidth", analysis.used.peak_bandwidth);
  json.put("basis", analysis.used.basis);
  json.put("target", analysis.used.target);
  json.end_object();
  put_summary(json, analysis);
}

void put_compared(Json& json, const ComparedMlp& pair) {
  json.start_object();
  json.put("change", pair.change);
  json.put("speedup", speedup(pair));
  for (const auto& [name, row] : {std::pair{"a", &pair.a}, {"b", &pair.b}}) {
    json.key(name);
    if (*row) {
      put_row(json, **row);
    } else {
      json.null();
    }
  }
  json.end_object();
}

}  // namespace

void Json::text(std::string_view value) {
  const std::string valid = clean(value);
  writer_.String(valid.data(), static_cast<rapidjson::SizeType>(valid.size()));
}

void Json::number(double value) {
  if (!std::isfinite(value)) {
    writer_.Null();
  } else if (value == std::floor(value) && std::abs(value) < 1e15) {  // counts, extents
    writer_.Int64(static_cast<std::int64_t>(value));
  } else {
    writer_.Double(value);
  }
}

void put_analysis(Json& json, const Analysis& analysis) {
  json.start_object();
  json.put("schema", kAnalysisSchema);
  json.put("version", version());
  put_head(json, analysis);
  json.key("mlps");
  json.start_array();
  for (const MlpRow& row : analysis.mlps) put_row(json, row);
  json.end_array();
  json.key("totals");
  json.start_array();
  for (const NameTotal& total : analysis.totals) {
    json.start_object();
    json.put("name", total.name);
    json.put("decoded", total.decoded);
    json.put("count", total.count);
    json.put("us", total.us);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

void put_comparison(Json& json, const Comparison& comparison) {
  json.start_object();
  json.put("schema", kComparisonSchema);
  json.put("version", version());
  json.put("headline", headline(comparison));
  put_texts(json, "text", summary(comparison));
  for (const auto& [name, analysis] : {std::pair{"a", &comparison.a}, {"b", &comparison.b}}) {
    json.key(name);
    json.start_object();
    put_head(json, *analysis);
    json.end_object();
  }
  json.key("mlps");
  json.start_array();
  for (const ComparedMlp& pair : comparison.mlps) put_compared(json, pair);
  json.end_array();
  json.key("kernels");
  json.start_array();
  for (const KernelChange& change : comparison.kernels) {
    json.start_object();
    json.put("name", change.name);
    json.put("count_a", change.count_a);
    json.put("count_b", change.count_b);
    json.put("us_a", change.us_a);
    json.put("us_b", change.us_b);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

}  // namespace report

inline namespace v0 {

std::string to_json(const Analysis& analysis) {
  report::JsonBuffer buffer;
  report::Json json(buffer);
  report::put_analysis(json, analysis);
  return {buffer.GetString(), buffer.GetSize()};
}

std::string to_json(const Comparison& comparison) {
  report::JsonBuffer buffer;
  report::Json json(buffer);
  report::put_comparison(json, comparison);
  return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace v0
}  // namespace fusedmlp
