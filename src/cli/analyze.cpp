// fusedmlp analyze: which MLPs a trace holds, what each costs and why, and what fusing would save.
#include "cli/command.h"
#include "cli/trace_options.h"

namespace fusedmlp::cli {
namespace {

struct Options : TraceOptions {
  std::string trace;
};

int run(const Options& options) {
  if (options.json == "-" && options.html == "-") throw Failure("--json and --html: only one of them can be stdout");
  OutputFile json(options.json), html(options.html, "--html");
  const Analysis analysis = read(options.trace, options);
  if (json.prints_text() && html.prints_text()) print("{}", to_text(analysis, text_options()));
  if (json.wanted()) json.write(to_json(analysis));
  if (html.wanted()) html.write(to_html(analysis));
  return kExitOk;
}

}  // namespace

void add_analyze(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("analyze", "Which MLPs a profiler trace holds, what each costs, what fusing would save");
  command
      ->add_option("TRACE", options->trace,
                   "Trace of torch.profiler, .json or .json.gz (- is stdin), or a saved analysis")
      ->required()
      ->type_name("");
  add_trace_options(*command, *options);
  command->footer(
      "Examples:\n  fusedmlp analyze trace.json.gz\n"
      "  fusedmlp analyze trace.json --html report.html --json analysis.json\n"
      "  fusedmlp analyze trace.json.gz --target H100\n"
      "Make a trace: torch.profiler.profile(record_shapes=True) and export_chrome_trace(\"trace.json.gz\").");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
