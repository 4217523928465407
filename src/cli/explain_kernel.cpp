// fusedmlp explain-kernel: what the name of a GPU kernel says.

#include <iostream>

#include "cli/command.h"
#include "core/text.h"
#include "fusedmlp/analysis.h"
#include "trace/kernel_name.h"

namespace fusedmlp::cli {
namespace {

struct Options {
  std::vector<std::string> names;
  std::string json;
};

bool blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// The names given, with the lines of stdin in place of each "-". Blank lines there are passed over.
std::vector<std::string> read_names(const std::vector<std::string>& arguments) {
  std::vector<std::string> names;
  for (const std::string& argument : arguments) {
    if (argument == "-") {
      for (std::string line; std::getline(std::cin, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (!blank(line)) names.push_back(line);
      }
    } else if (blank(argument)) {
      throw Failure("NAME: got an empty text, accepted: a kernel's name, or - for names on stdin, one a line");
    } else {
      names.push_back(argument);
    }
  }
  if (names.empty()) throw Failure("NAME: stdin holds no name, accepted: kernels' names, one a line");
  return names;
}

void put_optional(JsonWriter& json, const char* key, const std::optional<int>& value) {
  json.Key(key);
  value ? json.Int(*value) : json.Null();
}

void put_optional(JsonWriter& json, const char* key, const std::optional<std::string>& value) {
  json.Key(key);
  value ? json.String(value->c_str()) : json.Null();
}

void put_name(JsonWriter& json, const std::string& text, const trace::KernelName& name) {
  json.StartObject();
  put(json, "name", std::string_view(text));
  put(json, "known", name.family != trace::Family::unknown);
  put(json, "family", trace::to_string(name.family));
  put(json, "work", trace::to_string(name.work));
  put(json, "words", std::string_view(name.words));
  put(json, "certain", std::string_view(trace::certain(text)));
  put_optional(json, "dtype", name.dtype);
  put_optional(json, "sm", name.sm);
  put_optional(json, "tile_m", name.tile_m);
  put_optional(json, "tile_n", name.tile_n);
  put_optional(json, "tile_k", name.tile_k);
  put_optional(json, "stages", name.stages);
  put_optional(json, "cluster_m", name.cluster_m);
  put_optional(json, "cluster_n", name.cluster_n);
  put_optional(json, "layout", name.layout);
  put_optional(json, "schedule", name.schedule);
  put(json, "split_k", name.split_k);
  put(json, "grouped", name.grouped);
  put(json, "backward", name.backward);
  put(json, "fused_bias", name.fused_bias);
  put_optional(json, "activation", name.activation);
  put(json, "multiplies", name.multiplies);
  json.Key("ops");
  json.StartArray();
  for (const std::string& op : name.ops) json.String(op.c_str());
  json.EndArray();
  json.EndObject();
}

int run(const Options& options) {
  const std::vector<std::string> names = read_names(options.names);
  OutputFile target(options.json);
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json);
  json.Key("results");
  json.StartArray();
  bool all_known = true;
  for (const std::string& text : names) {
    const trace::KernelName name = trace::decode(text);
    const bool known = name.family != trace::Family::unknown;
    all_known = all_known && known;
    put_name(json, text, name);
    if (!target.prints_text()) continue;
    const std::string certain = known ? name.words : trace::certain(text);
    print("{}\n  {}{}\n", core::quoted(text, text.size()), known ? "" : "not known; ",
          certain.empty() ? "nothing about it is certain" : certain);
  }
  json.EndArray();
  json.EndObject();
  if (target.wanted()) target.write(buffer);
  return all_known ? kExitOk : kExitFailed;
}

}  // namespace

void add_explain_kernel(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("explain-kernel", "What the name of a GPU kernel says");
  command->add_option("name", options->names, "A kernel's name as in a trace; - reads names from stdin, one a line")
      ->type_name("NAME")
      ->required();
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "Examples:\n  fusedmlp explain-kernel nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT\n"
      "  fusedmlp explain-kernel triton_poi_fused__unsafe_view_gelu_mul_0 attn_fwd --json -\n\n"
      "Exit codes: 0 every name is known, 1 one is not, 2 wrong input.");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
