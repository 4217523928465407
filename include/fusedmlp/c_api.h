/* C ABI for other languages: text in, JSON out. Strings returned are owned by the caller and freed with
 * fusedmlp_free; every one is a JSON object: {"ok": true, ...} or
 * {"ok": false, "code": "...", "argument": "...", "message": "..."}. NULL only when memory is out. */
#ifndef FUSEDMLP_C_API_H
#define FUSEDMLP_C_API_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

const char* fusedmlp_version(void); /* static; do not free */
void fusedmlp_free(char* text);

/* {"ok":true,"spec":"<canonical>","d_in":..,"activation":"gelu","activation_index":3,...} */
char* fusedmlp_spec_json(const char* spec);

/* {"ok":true,"devices":[{"device":"cpu","name":..,"isa":..,"cores":..,...}]} */
char* fusedmlp_info_json(void);

/* {"ok":true,"spec":..,"tokens":..,"device":..,"chosen":"..","predicted_us":..,"limit_us":..,"entries":[
 *   {"name":..,"predicted_us":..|null,"basis":..,"bound":..,"chosen":..,"reason":..}]}
 * For a GPU also "library_us", predicted for a framework's own operations, and "pays": whether a caller who has those
 * should run the chosen kernel (Selection::pays in packed.h). */
char* fusedmlp_explain_json(const char* spec, int64_t tokens, const char* device);

/* Measures every CPU kernel for MLPs, writes the tuned table and uses it from now on. The request:
 * {"specs":["geglu:768x3072",..],"tokens":[1,64,..],"threads":2,"packed":true,"dry_run":false,"repeats":15,
 *  "min_time":0.1}; all but specs may be left out. The answer:
 * {"ok":true,"device_name":..,"isa":..,"threads":..,"packed":..,"results":[{"spec":..,"tokens":..,"bucket":..,
 *   "fastest":..,"predicted":..,"us":{"cpu.columns":..}}],"written":"PATH"|null,"moved_aside":""} */
char* fusedmlp_tune_json(const char* request);

/* A trace of torch.profiler, .json or .json.gz: {"ok":true,"analysis":{"schema":"fusedmlp-analysis-1",...}}.
 * options is NULL or an object: {"target":"H100","peak_flops":..,"peak_bandwidth":..,"python_functions":false}. */
char* fusedmlp_analyze_json(const char* path, const char* options);

/* An analysis (that object) laid out: {"ok":true,"text":".."} or {"ok":true,"html":".."}.
 * options is NULL or an object: {"width":80,"color":false}. */
char* fusedmlp_analysis_text(const char* analysis, const char* options);
char* fusedmlp_analysis_html(const char* analysis);

/* Two analyses, before and after: {"ok":true,"comparison":{"schema":"fusedmlp-comparison-1",...}}; as text. */
char* fusedmlp_compare_json(const char* a, const char* b);
char* fusedmlp_compare_text(const char* a, const char* b, const char* options);
/* One page for an array of two or more analyses; the first is what the others are compared with. */
char* fusedmlp_compare_html(const char* analyses);

/* {"ok":true,"name":"..","words":".."|null,"certain":"..","family":".."}; words is null for a name that is not known,
 * and certain what can be said of it still. */
char* fusedmlp_explain_kernel_json(const char* name);

#ifdef __cplusplus
}
#endif

#endif
