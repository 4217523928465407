// The C ABI of traces: analyses go in and out as their JSON.
#include "fusedmlp/c_api.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "core/answer.h"
#include "core/format.h"
#include "core/text.h"
#include "fusedmlp/report.h"
#include "report/json.h"
#include "report/wording.h"
#include "trace/kernel_name.h"

namespace {

using namespace fusedmlp;
using core::Json;
using core::missing;
using core::respond;

Status wrong(const char* argument, std::string message) {
  return Status(StatusCode::invalid_argument, argument, std::move(message));
}

// Options as an object whose members are each read once; a member that is left over is not known.
class Options {
 public:
  Status parse(const char* text) {
    document_.SetObject();
    if (text == nullptr || *text == '\0') return {};
    document_.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag>(text);
    if (document_.HasParseError() || !document_.IsObject()) return wrong("options", "must be a JSON object");
    return {};
  }
  void read(const char* name, std::string& out) {
    if (const rapidjson::Value* value = take(name, "a text", [](const auto& v) { return v.IsString(); })) {
      out = value->GetString();
    }
  }
  void read(const char* name, double& out) {
    const auto positive = [](const auto& v) { return v.IsNumber() && v.GetDouble() > 0; };
    if (const rapidjson::Value* value = take(name, "a number above 0", positive)) out = value->GetDouble();
  }
  void read(const char* name, int& out) {
    const auto positive = [](const auto& v) { return v.IsInt() && v.GetInt() > 0; };
    if (const rapidjson::Value* value = take(name, "a whole number above 0", positive)) out = value->GetInt();
  }
  void read(const char* name, bool& out) {
    if (const rapidjson::Value* value = take(name, "true or false", [](const auto& v) { return v.IsBool(); })) {
      out = value->GetBool();
    }
  }
  Status done() const {
    if (!status_.ok()) return status_;
    for (const auto& member : document_.GetObject()) {
      const std::string_view name(member.name.GetString(), member.name.GetStringLength());
      if (std::find(read_.begin(), read_.end(), name) == read_.end()) {
        std::string accepted;
        for (const std::string_view known : read_)
          accepted += core::format("{}{}", accepted.empty() ? "" : ", ", known);
        return wrong("options", core::format("holds {}, accepted: {}", core::quoted(name), accepted));
      }
    }
    return {};
  }

 private:
  template <class Accept>
  const rapidjson::Value* take(const char* name, const char* accepted, Accept&& accept) {
    read_.emplace_back(name);
    const auto member = document_.FindMember(name);
    if (member == document_.MemberEnd() || member->value.IsNull()) return nullptr;
    if (accept(member->value)) return &member->value;
    if (status_.ok()) status_ = wrong(name, core::format("accepted: {}", accepted));
    return nullptr;
  }

  rapidjson::Document document_;
  std::vector<std::string_view> read_;
  Status status_;
};

Status analyze_into(Json& json, const char* path, const char* options_text) {
  if (path == nullptr) return missing("path");
  Options options;
  if (Status status = options.parse(options_text); !status) return status;
  AnalyzeOptions how;
  options.read("target", how.target);
  options.read("peak_flops", how.peak_flops);
  options.read("peak_bandwidth", how.peak_bandwidth);
  options.read("python_functions", how.python_functions);
  if (Status status = options.done(); !status) return status;
  const Result<Analysis> analysis = analyze(path, how);
  if (!analysis) return analysis.status();
  json.raw("analysis", to_json(*analysis));
  return {};
}

// read_analysis(), with the argument's own name.
Result<Analysis> read_as(const char* argument, const char* text) {
  if (text == nullptr) return missing(argument);
  Result<Analysis> analysis = read_analysis(text);
  if (!analysis && analysis.status().argument() == "json") return wrong(argument, analysis.status().message());
  return analysis;
}

Result<TextOptions> text_options(const char* text) {
  Options options;
  if (Status status = options.parse(text); !status) return status;
  TextOptions out;
  options.read("width", out.width);
  options.read("color", out.color);
  if (Status status = options.done(); !status) return status;
  return out;
}

Result<Comparison> compare_texts(const char* a_text, const char* b_text) {
  Result<Analysis> a = read_as("a", a_text);
  if (!a) return a.status();
  Result<Analysis> b = read_as("b", b_text);
  if (!b) return b.status();
  return compare(std::move(a).value(), std::move(b).value());
}

Result<std::string> page_of(const char* text) {
  if (text == nullptr) return missing("analyses");
  rapidjson::Document document;
  document.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag>(text);
  if (document.HasParseError() || !document.IsArray() || document.Size() < 2) {
    return wrong("analyses", "must be a JSON array of two or more analyses");
  }
  std::vector<Comparison> comparisons;
  try {
    const Analysis base = report::read_analysis_object(document[0]);
    for (rapidjson::SizeType i = 1; i < document.Size(); ++i) {
      comparisons.push_back(compare(base, report::read_analysis_object(document[i])));
    }
  } catch (const std::invalid_argument& error) {
    return wrong("analyses", error.what());
  }
  return to_html(comparisons);
}

}  // namespace

extern "C" {

char* fusedmlp_analyze_json(const char* path, const char* options) {
  return respond([&](Json& json) { return analyze_into(json, path, options); });
}

char* fusedmlp_analysis_text(const char* analysis, const char* options) {
  return respond([&](Json& json) -> Status {
    const Result<TextOptions> how = text_options(options);
    if (!how) return how.status();
    const Result<Analysis> read = read_as("analysis", analysis);
    if (!read) return read.status();
    json.string("text", to_text(*read, *how));
    return {};
  });
}

char* fusedmlp_analysis_html(const char* analysis) {
  return respond([&](Json& json) -> Status {
    const Result<Analysis> read = read_as("analysis", analysis);
    if (!read) return read.status();
    json.string("html", to_html(*read));
    return {};
  });
}

char* fusedmlp_compare_json(const char* a, const char* b) {
  return respond([&](Json& json) -> Status {
    const Result<Comparison> comparison = compare_texts(a, b);
    if (!comparison) return comparison.status();
    json.raw("comparison", to_json(*comparison));
    return {};
  });
}

char* fusedmlp_compare_text(const char* a, const char* b, const char* options) {
  return respond([&](Json& json) -> Status {
    const Result<TextOptions> how = text_options(options);
    if (!how) return how.status();
    const Result<Comparison> comparison = compare_texts(a, b);
    if (!comparison) return comparison.status();
    json.string("text", to_text(*comparison, *how));
    return {};
  });
}

char* fusedmlp_compare_html(const char* analyses) {
  return respond([&](Json& json) -> Status {
    const Result<std::string> page = page_of(analyses);
    if (!page) return page.status();
    json.string("html", *page);
    return {};
  });
}

char* fusedmlp_explain_kernel_json(const char* name) {
  return respond([&](Json& json) -> Status {
    if (name == nullptr) return missing("name");
    const Result<std::string> words = explain_kernel(name);
    if (!words && words.status().code() != StatusCode::unsupported) return words.status();
    json.string("name", report::clean(name));
    if (words) {
      json.string("words", *words);
    } else {
      json.null("words");
    }
    json.string("certain", trace::certain(name));
    json.string("family", trace::to_string(trace::decode(name).family));
    return {};
  });
}

}  // extern "C"
