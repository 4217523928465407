#include "trace/reader.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/format.h"
#include "core/guarded.h"
#include "trace/batch.h"
#include "trace/builder.h"
#include "trace/byte_source.h"
#include "trace/parallel_parse.h"
#include "trace/text_block.h"

namespace fusedmlp::trace {
namespace {

// A record or a top-level value must fit into memory whole; what is longer counts as damage.
constexpr std::size_t kLargestItem = std::size_t{64} << 20;
constexpr std::size_t kSmallestBlock = 16;  // the first holds a byte order mark whole
constexpr std::size_t kDamagesTold = 10;

int thread_count(int asked) {
  if (asked > 0) return asked;
  // Beyond four the one thread that reads and merges is the limit.
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 4u));
}

class Reader {
 public:
  Reader(const std::string& path, ByteSource& source, const ReadOptions& options)
      : path_(path),
        source_(source),
        options_(options),
        threads_(thread_count(options.threads)),
        parser_(options.python_functions) {}

  Result<Trace> run() {
    more();
    if (c_.end - c_.p >= 3 && std::memcmp(c_.p, "\xef\xbb\xbf", 3) == 0) c_.p += 3;
    do c_.skip_space();
    while (c_.cut() && more());
    if (c_.take('[')) {
      bare_ = true;
      place_ = Place::events;
    } else if (!c_.take('{')) {
      return refuse(c_.cut()
                        ? problem_or(text_.offset_of(c_.p) == 0 ? "it is empty" : "it holds nothing but white space")
                        : core::format("it is neither JSON nor gzip: its text begins with {}", shown(*c_.p)));
    }
    while (place_ != Place::end) {
      if (place_ == Place::events) {
        read_events();
      } else {
        read_member();
      }
    }
    return conclude();
  }

 private:
  enum class Place : std::uint8_t { members, events, lost, end };

  // Reads on, keeping the text from c_.p; false at the end of the source.
  bool more() {
    const auto kept = static_cast<std::size_t>(c_.end - c_.p);
    // As much again as is kept, so that a long record is not scanned many times.
    TextBlock next(kept + std::max({options_.block, kept, kSmallestBlock}), text_.offset_of(c_.p));
    next.append(c_.p, c_.end);
    if (!ended_) ended_ = !next.fill(source_);
    text_ = std::move(next);
    c_ = text_.cursor();
    tell_progress();
    return text_.size() > kept;
  }

  void tell_progress() const {
    if (options_.progress) options_.progress(source_.consumed(), source_.total());
  }

  void read_events() {
    if (threads_ > 1 && !ended_) {
      read_events_in_parallel();
      threads_ = 1;
    }
    Batch batch;
    const Stop stop = parser_.parse(c_, text_.offset_of(c_.p), batch);
    builder_.add(batch, progress_of(source_));
    inside_ = stop == Stop::inside_record ? static_cast<std::int64_t>(text_.offset_of(c_.p)) : -1;
    if (stop == Stop::end_of_array) {
      place_ = bare_ ? Place::end : Place::members;
      closed_ = bare_;
      return;
    }
    if (static_cast<std::size_t>(c_.end - c_.p) > kLargestItem) {
      too_long();
      parser_.lose_place();
      return;
    }
    if (!more()) place_ = Place::end;
  }

  // As many whole records as can be told apart locally; the rest is for the serial parser.
  void read_events_in_parallel() {
    TextBlock rest(static_cast<std::size_t>(c_.end - c_.p), text_.offset_of(c_.p));
    rest.append(c_.p, c_.end);
    Remainder left = parse_in_parallel(
        std::move(rest), source_, {threads_, options_.block, options_.python_functions, [this] { tell_progress(); }},
        builder_);
    text_ = std::move(left.text);
    c_ = text_.cursor();
    ended_ = left.ended;
  }

  // A member of the outermost object. Keys come in any order, and traceEvents may not be the last.
  void read_member() {
    const char* const start = c_.p;
    const bool sound = place_ == Place::members && take_member();
    if (sound) return;
    if (place_ == Place::members && !c_.cut()) {
      if (seen_events_) return abandon_tail();
      damages_.push_back({text_.offset_of(c_.p), *c_.p});
      place_ = Place::lost;
    }
    c_.p = start;
    if (place_ == Place::lost && find_events()) return;
    if (place_ == Place::members && static_cast<std::size_t>(c_.end - c_.p) > kLargestItem) {
      if (seen_events_) return abandon_tail();
      too_long();
      place_ = Place::lost;
      return;
    }
    if (place_ != Place::end && !more()) place_ = Place::end;
  }

  void abandon_tail() {
    warn(core::format("what is behind the events cannot be read, from {} on", at(text_.offset_of(c_.p))));
    abandoned_ = true;
    place_ = Place::end;
  }

  bool take_member() {
    c_.skip_space();
    if (c_.take('}')) {
      closed_ = true;
      place_ = Place::end;
      return true;
    }
    if (c_.take(',')) return true;
    std::string_view key, value;
    bool escaped = false;
    if (!take_string(c_, key, escaped)) return false;
    c_.skip_space();
    if (!c_.take(':')) return false;
    c_.skip_space();
    if (key == "traceEvents" && c_.take('[')) {
      seen_events_ = true;
      place_ = Place::events;
      return true;
    }
    if (!take_value(c_, value)) return false;
    if (key == "deviceProperties") builder_.add_devices(value);
    return true;
  }

  // After damage before the events: their key, wherever it is.
  bool find_events() {
    constexpr std::string_view kKey = "\"traceEvents\"";
    const std::string_view text(c_.p, static_cast<std::size_t>(c_.end - c_.p));
    const std::size_t at = text.find(kKey);
    if (at == std::string_view::npos) {
      if (text.size() >= kKey.size()) c_.p += text.size() - kKey.size() + 1;
      return false;
    }
    c_.p += at;
    const char* const start = c_.p;
    c_.p += kKey.size();
    c_.skip_space();
    const bool colon = c_.take(':');
    c_.skip_space();
    if (colon && c_.take('[')) {
      seen_events_ = true;
      place_ = Place::events;
      return true;
    }
    if (!c_.cut()) return true;  // the text of something else: search on behind it
    c_.p = start;
    return false;
  }

  void too_long() {
    warn(core::format("the record at byte {} is longer than {} MiB and was skipped", text_.offset_of(c_.p),
                      kLargestItem >> 20));
  }

  Result<Trace> conclude() {
    if (closed_) {
      do c_.skip_space();
      while (c_.cut() && more());
      if (!c_.cut()) {
        warn(core::format("text goes on behind the end of the JSON, at {}; it was not read",
                          at(text_.offset_of(c_.p))));
      }
    }
    // To the end in any case: a checksum is there, and whether the file is cut.
    do c_.p = c_.end;
    while (more());
    if (bare_ && builder_.records() == 0) return refuse(problem_or("its JSON array holds no trace events"));
    if (!bare_ && !seen_events_) {
      return refuse(problem_or(closed_ ? std::string("its JSON has no array \"traceEvents\"")
                                       : core::format("no array \"traceEvents\" before {}", end_text())));
    }
    tell_damages();
    // A bare array may lack its end: the Chrome format says so.
    const std::string problem = source_.problem();
    if (!problem.empty() || (!closed_ && !abandoned_ && (!bare_ || inside_ >= 0))) {
      std::string text = core::format("{}: the text ends at {}", problem.empty() ? "the file is cut" : problem,
                                      at(text_.offset_of(c_.end)));
      if (inside_ >= 0) text += core::format(", inside the record that begins at byte {}", inside_);
      warn(text + "; what came before was read");
    }
    Trace trace = builder_.finish();
    if (builder_.untimed() > 0) {
      warn(core::format("{} records without a usable ts and dur were left out", builder_.untimed()));
    }
    trace.warnings = std::move(warnings_);
    return trace;
  }

  void tell_damages() {
    damages_.insert(damages_.begin(), builder_.damages().begin(), builder_.damages().end());
    std::sort(damages_.begin(), damages_.end(), [](const Damage& a, const Damage& b) { return a.offset < b.offset; });
    for (std::size_t i = 0; i < std::min(damages_.size(), kDamagesTold); ++i) {
      warn(core::format("malformed JSON: unexpected {} at {}; the record was skipped", shown(damages_[i].byte),
                        at(damages_[i].offset)));
    }
    if (damages_.size() > kDamagesTold) {
      warn(core::format("{} more malformed records were skipped", damages_.size() - kDamagesTold));
    }
  }

  void warn(std::string text) { warnings_.push_back(std::move(text)); }

  std::string at(std::uint64_t offset) const {
    return core::format("byte {}{}", offset, source_.compressed() ? " of the uncompressed text" : "");
  }
  std::string end_text() const { return "its end at " + at(text_.offset_of(c_.end)); }
  std::string problem_or(const std::string& text) const {
    const std::string problem = source_.problem();
    return problem.empty() ? text : problem;
  }
  static std::string shown(char byte) {
    const auto code = static_cast<unsigned char>(byte);
    return code > 0x20 && code < 0x7f ? core::format("'{}'", byte) : core::format("byte 0x{:02x}", unsigned{code});
  }

  Status refuse(const std::string& why) const { return not_a_trace(path_, why); }

  const std::string& path_;
  ByteSource& source_;
  const ReadOptions& options_;
  int threads_;
  EventParser parser_;
  TraceBuilder builder_;
  TextBlock text_;
  TextCursor c_ = text_.cursor();
  bool ended_ = false;  // nothing follows text_
  Place place_ = Place::members;
  bool bare_ = false;         // the text is an array of events
  bool seen_events_ = false;  // traceEvents has begun
  bool closed_ = false;       // the outermost value has ended
  bool abandoned_ = false;    // what follows the events is damaged
  std::int64_t inside_ = -1;  // start of the record that the text's end cuts
  std::vector<Damage> damages_;
  std::vector<std::string> warnings_;
};

}  // namespace

Result<Trace> read(std::unique_ptr<ByteSource> bytes, const std::string& path, const ReadOptions& options) {
  return core::guarded([&]() -> Result<Trace> {
    const std::unique_ptr<ByteSource> source = text_of(std::move(bytes));
    return Reader(path, *source, options).run();
  });
}

Result<Trace> read(const std::string& path, const ReadOptions& options) {
  return core::guarded([&]() -> Result<Trace> {
    Result<std::unique_ptr<ByteSource>> file = open_file(path);
    if (!file) return file.status();
    return read(std::move(file).value(), path, options);
  });
}

}  // namespace fusedmlp::trace
