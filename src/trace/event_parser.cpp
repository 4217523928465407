#include <array>

#include "trace/batch.h"

namespace fusedmlp::trace {
namespace {

enum class ArgKey : std::uint8_t {
  external_id,
  correlation,
  device,
  stream,
  grid,
  block,
  registers,
  shared_memory,
  graph,
  graph_node,
  bytes,
  sequence,
  forward_thread,
  dims,
  strides,
  types,
  concrete,
  none,
};

struct NamedKey {
  std::string_view name;
  ArgKey key;
};

// Kineto's names, those of 2021 too (PyTorch 1.8 to 1.12), by length.
constexpr std::array kArgKeys = {
    NamedKey{"grid", ArgKey::grid},
    NamedKey{"block", ArgKey::block},
    NamedKey{"bytes", ArgKey::bytes},
    NamedKey{"device", ArgKey::device},
    NamedKey{"stream", ArgKey::stream},
    NamedKey{"graph id", ArgKey::graph},
    NamedKey{"Input Dims", ArgKey::dims},
    NamedKey{"Input type", ArgKey::types},
    NamedKey{"Input dims", ArgKey::dims},
    NamedKey{"External id", ArgKey::external_id},
    NamedKey{"correlation", ArgKey::correlation},
    NamedKey{"external id", ArgKey::external_id},
    NamedKey{"Input Strides", ArgKey::strides},
    NamedKey{"Fwd thread id", ArgKey::forward_thread},
    NamedKey{"shared memory", ArgKey::shared_memory},
    NamedKey{"graph node id", ArgKey::graph_node},
    NamedKey{"Concrete Inputs", ArgKey::concrete},
    NamedKey{"Sequence number", ArgKey::sequence},
    NamedKey{"registers per thread", ArgKey::registers},
};

// The first key of each length; the last entry is the table's end.
constexpr auto kFirstOfLength = [] {
  std::array<std::size_t, kArgKeys.back().name.size() + 2> first{};
  for (std::size_t length = 0, at = 0; length < first.size(); ++length) {
    while (at < kArgKeys.size() && kArgKeys[at].name.size() < length) ++at;
    first[length] = at;
  }
  return first;
}();

ArgKey arg_key(std::string_view name) {
  if (name.size() + 1 >= kFirstOfLength.size()) return ArgKey::none;
  for (std::size_t i = kFirstOfLength[name.size()]; i < kFirstOfLength[name.size() + 1]; ++i) {
    if (kArgKeys[i].name == name) return kArgKeys[i].key;
  }
  return ArgKey::none;
}

struct NamedCategory {
  std::string_view name;
  Category category;
};

// Kineto's ActivityType names of today, then those of 2021.
constexpr std::array kCategories = {
    NamedCategory{"cpu_op", Category::cpu_op},
    NamedCategory{"cuda_runtime", Category::runtime},
    NamedCategory{"kernel", Category::kernel},
    NamedCategory{"python_function", Category::python_function},
    NamedCategory{"cuda_driver", Category::runtime},
    NamedCategory{"gpu_memcpy", Category::memcpy},
    NamedCategory{"gpu_memset", Category::memset},
    NamedCategory{"user_annotation", Category::user_annotation},
    NamedCategory{"gpu_user_annotation", Category::gpu_user_annotation},
    NamedCategory{"overhead", Category::overhead},
    NamedCategory{"cuda_sync", Category::sync},
    NamedCategory{"hip_runtime", Category::runtime},
    NamedCategory{"hip_driver", Category::runtime},
    NamedCategory{"Operator", Category::cpu_op},
    NamedCategory{"User", Category::user_annotation},
    NamedCategory{"Kernel", Category::kernel},
    NamedCategory{"Runtime", Category::runtime},
    NamedCategory{"Memcpy", Category::memcpy},
    NamedCategory{"Memset", Category::memset},
};

Category category_of(std::string_view cat, std::string_view name) {
  // In 2021 the steps of a schedule were operators.
  if (cat == "Operator" && name.starts_with("ProfilerStep#")) return Category::user_annotation;
  for (const NamedCategory& known : kCategories) {
    if (known.name == cat) return known.category;
  }
  return Category::other;
}

// A scalar or string of the text; `escaped` strings still have their escapes.
struct Field {
  std::string_view text;
  bool escaped = false;
};

// What an event's text says, before its category is known: keys come in any order.
struct Record {
  Field phase, category, name, pid, tid;
  std::string_view ts, dur;
  std::int64_t external_id = -1;
  std::int64_t correlation = -1;
  std::int64_t device = -1;
  DeviceArgs kernel;
  OpArgs op;
  std::string_view dims, strides, types, concrete;
};

bool take_field(TextCursor& c, Field& out) {
  if (*c.p == '"') return take_string(c, out.text, out.escaped);
  out.escaped = false;
  return take_value(c, out.text);
}

// A number, or one in quotes.
bool take_int(TextCursor& c, std::int64_t& out) {
  Field field;
  if (!take_field(c, field)) return false;
  parse_int(field.text, out);
  return true;
}

bool take_int(TextCursor& c, std::int32_t& out) {
  std::int64_t wide = -1;
  if (!take_int(c, wide)) return false;
  if (wide == static_cast<std::int32_t>(wide)) out = static_cast<std::int32_t>(wide);
  return true;
}

// [x, y, z]; other values are skipped.
bool take_triple(TextCursor& c, std::int32_t (&out)[3]) {
  if (*c.p != '[') {
    std::string_view ignored;
    return take_value(c, ignored);
  }
  ++c.p;
  for (int i = 0;; ++i) {
    c.skip_space();
    if (i == 0 && c.take(']')) return true;
    std::int32_t value = -1;
    if (!take_int(c, value)) return false;
    if (i < 3) out[i] = value;
    c.skip_space();
    if (c.take(']')) return true;
    if (!c.take(',')) return false;
  }
}

bool take_arg(TextCursor& c, ArgKey key, Record& record) {
  switch (key) {
    case ArgKey::external_id: return take_int(c, record.external_id);
    case ArgKey::correlation: return take_int(c, record.correlation);
    case ArgKey::device: return take_int(c, record.kernel.device);
    case ArgKey::stream: return take_int(c, record.kernel.stream);
    case ArgKey::grid: return take_triple(c, record.kernel.grid);
    case ArgKey::block: return take_triple(c, record.kernel.block);
    case ArgKey::registers: return take_int(c, record.kernel.registers);
    case ArgKey::shared_memory: return take_int(c, record.kernel.shared_memory);
    case ArgKey::graph: return take_int(c, record.kernel.graph);
    case ArgKey::graph_node: return take_int(c, record.kernel.graph_node);
    case ArgKey::bytes: return take_int(c, record.kernel.bytes);
    case ArgKey::sequence: return take_int(c, record.op.sequence);
    case ArgKey::forward_thread: return take_int(c, record.op.forward_thread);
    case ArgKey::dims: return take_value(c, record.dims);
    case ArgKey::strides: return take_value(c, record.strides);
    case ArgKey::types: return take_value(c, record.types);
    case ArgKey::concrete: return take_value(c, record.concrete);
    case ArgKey::none: break;
  }
  std::string_view ignored;
  return take_value(c, ignored);
}

// An object, `member(key)` taking each value.
template <class Member>
bool take_object(TextCursor& c, Member member) {
  if (!c.take('{')) return false;
  c.skip_space();
  if (c.take('}')) return true;
  for (;;) {
    std::string_view key;
    bool escaped = false;
    c.skip_space();
    if (!take_string(c, key, escaped)) return false;
    c.skip_space();
    if (!c.take(':')) return false;
    c.skip_space();
    if (!member(key)) return false;
    c.skip_space();
    if (c.take('}')) return true;
    if (!c.take(',')) return false;
  }
}

bool take_args(TextCursor& c, Record& record) {
  if (*c.p != '{') {
    std::string_view ignored;
    return take_value(c, ignored);
  }
  return take_object(c, [&](std::string_view key) { return take_arg(c, arg_key(key), record); });
}

bool take_record(TextCursor& c, Record& record) {
  return take_object(c, [&](std::string_view key) {
    if (key == "args") return take_args(c, record);
    if (key == "name") return take_field(c, record.name);
    if (key == "cat") return take_field(c, record.category);
    if (key == "ph") return take_field(c, record.phase);
    if (key == "pid") return take_field(c, record.pid);
    if (key == "tid") return take_field(c, record.tid);
    Field field;
    if (!take_field(c, field)) return false;
    if (key == "ts") record.ts = field.text;
    if (key == "dur") record.dur = field.text;
    return true;
  });
}

std::uint32_t add_text(Batch& batch, const Field& field) {
  if (!field.escaped) return field.text.data() == nullptr ? kNone : batch.texts.add(field.text).id;
  batch.unescaped.push_back(unescape(field.text));
  const TextIndex::Found found = batch.texts.add(batch.unescaped.back());
  if (!found.added) batch.unescaped.pop_back();
  return found.id;
}

std::uint32_t add_text(Batch& batch, std::string_view text) { return add_text(batch, Field{text, false}); }

// The number in a tid such as "stream 7" of the files of 2021.
std::int64_t trailing_number(std::string_view text) {
  const std::size_t last = text.find_last_not_of("0123456789");
  std::int64_t number = -1;
  parse_int(last == std::string_view::npos ? text : text.substr(last + 1), number);
  return number;
}

std::uint32_t add_device_args(Batch& batch, const Record& record) {
  DeviceArgs args = record.kernel;
  args.external_id = record.external_id;
  args.correlation = record.correlation;
  // On a GPU's rows pid is the device and tid the stream.
  if (args.device < 0) args.device = static_cast<std::int32_t>(trailing_number(record.pid.text));
  if (args.stream < 0) args.stream = trailing_number(record.tid.text);
  batch.device_args.push_back(args);
  return static_cast<std::uint32_t>(batch.device_args.size() - 1);
}

std::uint32_t add_op_args(Batch& batch, const Record& record) {
  OpArgs args = record.op;
  args.external_id = record.external_id;
  args.dims = add_text(batch, record.dims);
  args.strides = add_text(batch, record.strides);
  args.types = add_text(batch, record.types);
  args.concrete = add_text(batch, record.concrete);
  batch.op_args.push_back(args);
  return static_cast<std::uint32_t>(batch.op_args.size() - 1);
}

void add_event(Batch& batch, const Record& record, bool python_functions) {
  const std::string_view phase = record.phase.text;
  const bool complete = phase == "X";
  if (!complete && phase != "B" && phase != "E") return;
  Event event;
  event.category = category_of(record.category.text, record.name.text);
  if (event.category == Category::python_function && !python_functions) return;
  const bool timed = parse_microseconds(record.ts, event.start) &&
                     (!complete || (parse_microseconds(record.dur, event.duration) && event.duration >= 0));
  // The end must fit too, and with room for differences of any two times.
  constexpr std::int64_t kLatest = std::int64_t{1} << 62;
  if (!timed || event.start > kLatest || event.start < -kLatest || event.duration > kLatest - event.start) {
    ++batch.untimed;
    return;
  }
  event.name = add_text(batch, record.name);
  event.pid = add_text(batch, record.pid);
  event.tid = add_text(batch, record.tid);
  switch (event.category) {
    case Category::kernel:
    case Category::memcpy:
    case Category::memset: event.args = add_device_args(batch, record); break;
    case Category::cpu_op: event.args = add_op_args(batch, record); break;
    case Category::runtime:
      batch.runtime_args.push_back({record.correlation, record.external_id});
      event.args = static_cast<std::uint32_t>(batch.runtime_args.size() - 1);
      break;
    default: break;
  }
  if (complete) {
    batch.events.push_back(event);
  } else {
    if (phase == "E") event.duration = -1;
    batch.begins_and_ends.push_back(event);
  }
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

const char* skip_space(const char* p, const char* end) {
  while (p < end && is_space(*p)) ++p;
  return p;
}

}  // namespace

const char* find_record(const char* p, const char* end, const char*& resume) {
  while (p < end) {
    p = static_cast<const char*>(std::memchr(p, '}', static_cast<std::size_t>(end - p)));
    if (p == nullptr) break;
    const char* at = skip_space(p + 1, end);
    if (at < end && *at == ',') {
      at = skip_space(at + 1, end);
      if (at < end && *at == '{') {
        const char* const brace = at;
        at = skip_space(at + 1, end);
        if (at < end && *at == '"') return brace;
      }
    }
    if (at == end) {  // undecided
      resume = p;
      return nullptr;
    }
    ++p;
  }
  resume = end;
  return nullptr;
}

const char* find_last_record(const char* begin, const char* end) {
  for (const char* to = end; to > begin;) {
    to = static_cast<const char*>(memrchr(begin, '{', static_cast<std::size_t>(to - begin)));
    if (to == nullptr) return nullptr;
    const char* const behind = skip_space(to + 1, end);
    if (behind == end || *behind != '"') continue;
    const char* before = to;
    const auto step_back = [&] {
      while (before > begin && is_space(before[-1])) --before;
      return before > begin ? *--before : '\0';
    };
    if (step_back() == ',' && step_back() == '}') return to;
  }
  return nullptr;
}

Stop EventParser::parse(TextCursor& c, std::uint64_t offset, Batch& batch) {
  const char* const begin = c.p;
  for (;;) {
    if (lost_) {
      const char* resume = nullptr;
      const char* const found = find_record(c.p, c.end, resume);
      c.p = found != nullptr ? found : resume;
      if (found == nullptr) return Stop::end_of_text;
      lost_ = false;
    }
    c.skip_space();
    if (c.take(',')) continue;
    if (c.take(']')) return Stop::end_of_array;
    if (c.cut()) return Stop::end_of_text;
    const char* const start = c.p;
    Record record;
    if (take_record(c, record)) {
      ++batch.records;
      add_event(batch, record, python_functions_);
      continue;
    }
    if (c.cut()) {
      c.p = start;
      return Stop::inside_record;
    }
    batch.damages.push_back({offset + static_cast<std::uint64_t>(c.p - begin), *c.p});
    c.p = start;
    lost_ = true;
  }
}

}  // namespace fusedmlp::trace
