// The tuned table: which kernel was the fastest where it was measured. `fusedmlp tune` writes it, dispatch prefers it
// to predictions, nothing needs it.
//
// A JSON file, {"schema": "fusedmlp-tuned-1", "measurements": [{...}, ...]}, each measurement with the members of
// TunedKey and TunedRecord. FUSEDMLP_TUNED names the file ("" or "off": none); without it the file is
// $XDG_CACHE_HOME/fusedmlp/tuned.json, or ~/.cache/fusedmlp/tuned.json.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/kernel.h"

namespace fusedmlp::core {

inline constexpr const char* kTunedSchema = "fusedmlp-tuned-1";

// Token counts that share a measurement lie between two powers of two; the upper one names them: 1, 2, 3-4 (4), 5-8
// (8), 9-16 (16) and so on. tokens >= 1.
std::int64_t token_bucket(std::int64_t tokens) noexcept;

// What a measurement holds for, and nothing else.
struct TunedKey {
  std::string device;  // DeviceInfo::name
  std::string isa;     // "avx2"; "" on a GPU
  int threads = 1;
  std::string version;  // of this library: kernels change
  std::string spec;     // canonical text
  bool packed = true;
  std::int64_t bucket = 1;

  friend auto operator<=>(const TunedKey&, const TunedKey&) = default;
};

struct TunedRecord {
  std::int64_t tokens = 1;                // at which it was measured; in the bucket
  std::string date;                       // UTC, "2026-01-31T12:00:00Z"
  std::map<std::string, double> seconds;  // median by kernel, not empty, > 0

  const std::string& fastest() const;
};

using TunedTable = std::map<TunedKey, TunedRecord>;

TunedKey tuned_key(const Query& query);

// The table as text, and back. Errors say what is wrong and where, in one line that is safe to print.
std::string tuned_text(const TunedTable& table);
Result<TunedTable> parse_tuned(std::string_view text);

// A table as it was found.
struct TunedState {
  std::string path;     // empty: none is to be used
  std::string ignored;  // why there is none or it is not used; empty when it is
  bool exists = false;
  bool named = false;  // by FUSEDMLP_TUNED
  TunedTable table;

  const TunedRecord* find(const Query& query) const;
  // Measurements for this device and this version of the library.
  std::size_t count(const DeviceInfo& device) const;
  // Whether someone put a table there, or wanted one.
  bool notable() const { return !path.empty() && (exists || named); }
  // One line for people: "PATH: 12 measurements, 8 of this device", or why there is none.
  std::string describe(const DeviceInfo& device) const;
};

// What FUSEDMLP_TUNED and the user's cache directory say now.
TunedState read_tuned();

// The same for a file. Never fails: what is wrong with the file is in `ignored`.
TunedState read_tuned(std::string path);

// The state of this process: read at first use, kept until reload_tuned(). Safe from every thread, without a lock
// once read; an address that this has returned stays valid and is never given to another state.
const TunedState& tuned() noexcept;
void reload_tuned();

// Ok if merge_tuned could write this file now; makes missing directories.
Status tuned_writable(const std::string& path);

// Puts measurements into the file, replacing those of equal keys, and keeps the rest. Safe beside other writers and
// readers: under a lock of its own (PATH.lock), by an atomic rename. What is there and is no tuned table of this
// schema is first moved to PATH.bad; then *moved (may be null) says why.
Status merge_tuned(const std::string& path, const TunedTable& fresh, std::string* moved);

}  // namespace fusedmlp::core
