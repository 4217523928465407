// fusedmlp compare: two traces of one model, before and after.
#include "cli/command.h"
#include "cli/trace_options.h"

namespace fusedmlp::cli {
namespace {

struct Options : TraceOptions {
  std::string a, b;
};

int run(const Options& options) {
  if (options.json == "-" && options.html == "-") throw Failure("--json and --html: only one of them can be stdout");
  if (options.a == "-" && options.b == "-") throw Failure("A and B: only one of them can be stdin");
  OutputFile json(options.json), html(options.html, "--html");
  Analysis a = read(options.a, options);
  Analysis b = read(options.b, options);
  const Comparison comparison = fusedmlp::compare(std::move(a), std::move(b));
  if (json.prints_text() && html.prints_text()) print("{}", to_text(comparison, text_options()));
  if (json.wanted()) json.write(to_json(comparison));
  if (html.wanted()) html.write(to_html(comparison));
  return kExitOk;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compare", "Two traces of one model: what changed in its MLPs");
  command->add_option("A", options->a, "The trace before (- is stdin), or a saved analysis")
      ->required()
      ->type_name("");
  command->add_option("B", options->b, "The trace after, or a saved analysis")->required()->type_name("");
  add_trace_options(*command, *options);
  command->footer(
      "Examples:\n  fusedmlp compare eager.json.gz compiled.json.gz\n"
      "  fusedmlp compare eager.trace.json fused.trace.json --html before-and-after.html");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
