#!/bin/bash
# The program that times plans, on a build directory with GPU support: lab/decode/build.sh BUILD OUTPUT
here=$(dirname "$0")
nvcc -std=c++20 -O2 -cudart static -Xcompiler -Wall,-Wextra,-static-libstdc++,-static-libgcc -I"$here/../../include" \
  -I"$here/../../src" -o "$2" "$here/plans.cpp" "$1/src/libfusedmlp_static.a" -lz
