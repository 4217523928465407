// Programs that time a GPU end at the first error, with its text.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "fusedmlp/status.h"

namespace fusedmlp::benchmarks {

inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
inline void require(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::exit(1);
}

template <class T>
T take(Result<T> result) {
  require(result.status());
  return std::move(result).value();
}

}  // namespace fusedmlp::benchmarks
