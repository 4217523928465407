#!/bin/bash
# A program that times plans, on a build directory with GPU support: lab/build_plans.sh decode|cluster|sm90 BUILD OUTPUT
here=$(dirname "$0")
nvcc -std=c++20 -O2 -cudart static -Xcompiler -Wall,-Wextra,-static-libstdc++,-static-libgcc -I"$here/../include" \
  -I"$here/../src" -o "$3" "$here/$1/plans.cpp" "$2/src/libfusedmlp_static.a" -lz
