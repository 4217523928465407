// What the subcommands that read traces share.
#pragma once

#include <string>

#include "cli/command.h"
#include "fusedmlp/analysis.h"
#include "fusedmlp/report.h"

namespace fusedmlp::cli {

struct TraceOptions {
  std::string target;
  double peak_flops = 0;
  double peak_bandwidth = 0;
  bool python_functions = false;
  std::string json;
  std::string html;
};

void add_trace_options(CLI::App& command, TraceOptions& options);

// Reads a trace ("-": of standard input; pipes are read once), or an analysis that was saved as JSON. A line about
// progress on stderr where a person watches; Failure names the file.
Analysis read(const std::string& path, const TraceOptions& options);

// As stdout is: the width of its terminal (80 when there is none) and colour, unless NO_COLOR is set or TERM is dumb.
TextOptions text_options();

}  // namespace fusedmlp::cli
