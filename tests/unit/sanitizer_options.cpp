// Requests that no machine can satisfy are tested: under a sanitizer too they are to fail, not to abort.
extern "C" {

const char* __asan_default_options();
const char* __asan_default_options() { return "allocator_may_return_null=1"; }

const char* __tsan_default_options();
const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

}  // extern "C"
