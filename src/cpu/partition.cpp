#include "cpu/partition.h"

namespace fusedmlp::cpu {

RowBlocks row_blocks(std::int64_t tokens, const RowBlocking& blocking) {
  constexpr std::int64_t kEven = 8;  // blocks a thread up to which they are dealt out evenly
  const std::int64_t tile = blocking.tile_rows;
  const auto by_cache =
      static_cast<std::int64_t>(blocking.cache_bytes / std::max<std::size_t>(1, blocking.row_bytes));
  const std::int64_t most = std::clamp<std::int64_t>(by_cache, 8 * tile, 32 * tile);
  const std::int64_t threads = std::min<std::int64_t>(blocking.threads, ceil_div(tokens, tile));
  std::int64_t blocks = std::max({ceil_div(tokens, most), threads, std::int64_t{1}});
  if (blocks < kEven * threads) blocks = ceil_div(blocks, threads) * threads;
  const Split rows(ceil_div(tokens, blocking.unit), blocks);
  return {rows, blocking.unit, tokens, static_cast<int>(std::min<std::int64_t>(blocking.threads, rows.parts()))};
}

}  // namespace fusedmlp::cpu
