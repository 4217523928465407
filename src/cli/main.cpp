// fusedmlp: what the MLPs of a trace waste, what would run instead, how fast it is and whether it is right.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/command.h"

namespace {

using fusedmlp::cli::Action;
using fusedmlp::cli::Failure;

constexpr const char* kFooter =
    R"(A SPEC names an MLP: NAME:D_INxD_HIDDEN[->D_OUT][+bias][,fp32|bf16|fp16][,gate=first|last|interleaved]
where NAME is an activation (plain: gelu relu silu ...) or a gated form (geglu swiglu reglu ...).

Examples:
  fusedmlp analyze trace.json.gz --html report.html
  fusedmlp compare eager.json.gz fused.json.gz
  fusedmlp info
  fusedmlp explain geglu:768x3072,bf16 --tokens 1,16,1024
  fusedmlp bench gelu:64x256+bias --tokens 1,16
  fusedmlp verify swiglu:96x160 --dtype fp32,bf16,fp16

Exit codes: 0 success, 1 a check failed, 2 wrong input. 'fusedmlp COMMAND --help' shows a command's options.)";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

int run(int argc, char** argv) {
  fusedmlp::cli::remember_command_line(argc, argv);
  CLI::App app("Fused transformer MLPs: find it, fuse it, prove it.", "fusedmlp");
  app.set_version_flag("--version", std::string("fusedmlp ") + fusedmlp::version());
  app.footer(kFooter);
  app.get_formatter()->column_width(26);
  Action action;
  fusedmlp::cli::add_info(app, action);
  fusedmlp::cli::add_explain(app, action);
  fusedmlp::cli::add_explain_kernel(app, action);
  fusedmlp::cli::add_bench(app, action);
  fusedmlp::cli::add_verify(app, action);
  fusedmlp::cli::add_tune(app, action);
  fusedmlp::cli::add_analyze(app, action);
  fusedmlp::cli::add_compare(app, action);
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    throw Failure(first_line(error.what()));
  }
  if (!action) {
    std::string names;
    for (const CLI::App* command : app.get_subcommands({}))
      names += (names.empty() ? "" : ", ") + command->get_name();
    throw Failure("no command given; commands: " + names + " (see fusedmlp --help)");
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  int code = fusedmlp::cli::kExitFailed;
  try {
    code = run(argc, argv);
  } catch (const Failure& failure) {
    std::fprintf(stderr, "fusedmlp: %s\n", failure.what());
    return failure.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("fusedmlp: out of memory\n", stderr);
    return fusedmlp::cli::kExitFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fusedmlp: %s\n", error.what());
    return fusedmlp::cli::kExitFailed;
  }
  if (std::fflush(stdout) != 0) {
    std::fputs("fusedmlp: stdout cannot be written\n", stderr);
    return fusedmlp::cli::kExitFailed;
  }
  return code;
}
