#!/bin/bash
# The laboratory as a shared object, on the kernels of a built library: lab/sm90/build.sh LIBRARY.a OUTPUT.so
nvcc -std=c++20 -O2 -cudart static --diag-suppress=2810 -I"$(dirname "$0")/../../include" -I"$(dirname "$0")/../../src" \
  -shared -Xcompiler -fPIC,-static-libstdc++,-static-libgcc -o "$2" "$(dirname "$0")/lab.cu" "$1"
