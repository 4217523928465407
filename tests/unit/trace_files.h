// Traces as files, for tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>

#include "trace/reader.h"

namespace fusedmlp::test {

// A file that lives as long as the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view content, const std::string& suffix = ".json") {
    static std::atomic<int> count{0};
    path_ = (std::filesystem::temp_directory_path() /
             ("fusedmlp_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++) + suffix))
                .string();
    std::ofstream(path_, std::ios::binary) << content;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A trace of tests/data/traces, as the file is.
inline std::string data_path(const std::string& name) { return std::string(FUSEDMLP_TEST_DATA) + "/traces/" + name; }

inline std::string gzip(std::string_view text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, static_cast<uLong>(text.size())) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string gunzip(std::string_view data) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  std::string out;
  int result = Z_OK;
  while (result == Z_OK) {
    char block[65536];
    stream.next_out = reinterpret_cast<Bytef*>(block);
    stream.avail_out = sizeof block;
    result = inflate(&stream, Z_NO_FLUSH);
    out.append(block, sizeof block - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  inflateEnd(&stream);
  return out;
}

inline Result<trace::Trace> read_text(std::string_view bytes, const trace::ReadOptions& options = {}) {
  return trace::read(trace::memory_source(bytes), "trace", options);
}

// The trace of a text that must be readable.
inline trace::Trace trace_of(std::string_view text, const trace::ReadOptions& options = {}) {
  Result<trace::Trace> result = read_text(text, options);
  EXPECT_TRUE(result.ok()) << result.status().to_string();
  return result.ok() ? std::move(result).value() : trace::Trace{};
}

// All that a trace holds but its warnings, as text: equal texts are equal traces.
inline std::string dump(const trace::Trace& trace) {
  std::string out;
  const auto add = [&](const auto&... values) { ((out += ' ', out += std::to_string(values)), ...); };
  const auto add_shapes = [&](std::uint32_t id) {
    out += '|';
    if (id == trace::kNone) return;
    for (const auto& dims : trace.shapes[id]) {
      out += '[';
      for (const std::int64_t dim : dims) add(dim);
      out += ']';
    }
  };
  for (const trace::Event& e : trace.events) {
    for (const std::uint32_t text : {e.name, e.pid, e.tid}) {
      out += text == trace::kNone ? std::string_view("(none)") : trace.text(text);
      out += ' ';
    }
    add(static_cast<int>(e.category), e.start, e.duration);
    if (e.args == trace::kNone) {
      out += " no args";
    } else if (e.category == trace::Category::cpu_op) {
      const trace::OpArgs& a = trace.op_args[e.args];
      add(a.external_id, a.sequence, a.forward_thread);
      add_shapes(a.dims);
      add_shapes(a.strides);
      out.append(trace.text(a.types)).append(trace.text(a.concrete));
    } else if (e.category == trace::Category::runtime) {
      add(trace.runtime_args[e.args].correlation, trace.runtime_args[e.args].external_id);
    } else {
      const trace::DeviceArgs& a = trace.device_args[e.args];
      add(a.external_id, a.correlation, a.device, a.stream, a.grid[0], a.grid[1], a.grid[2], a.block[0], a.block[1],
          a.block[2], a.registers, a.shared_memory, a.graph, a.graph_node, a.bytes);
    }
    out += '\n';
  }
  for (const trace::DeviceProperties& d : trace.devices) {
    out += d.name;
    add(d.id, d.compute_major, d.compute_minor, d.sms, d.memory_bytes, d.max_threads_per_sm, d.registers_per_sm,
        d.shared_memory_per_sm);
    out += '\n';
  }
  return out;
}

// {"traceEvents": [events]}
inline std::string with_events(std::initializer_list<std::string_view> events) {
  std::string text = "{\"traceEvents\": [";
  const char* separator = "";
  for (const std::string_view event : events) {
    text += separator;
    text += event;
    separator = ",\n";
  }
  return text + "]}";
}

}  // namespace fusedmlp::test
