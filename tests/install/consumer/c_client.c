/* The C ABI from plain C: version, a good specification and a bad one. */
#include <stdio.h>
#include <string.h>

#include "fusedmlp/c_api.h"

static int check(const char* spec, const char* expected) {
  char* json = fusedmlp_spec_json(spec);
  const int found = json != NULL && strstr(json, expected) != NULL;
  if (!found) fprintf(stderr, "%s: no %s in %s\n", spec, expected, json ? json : "NULL");
  fusedmlp_free(json);
  return found;
}

int main(void) {
  if (strcmp(fusedmlp_version(), EXPECTED_VERSION) != 0) {
    fprintf(stderr, "version is %s, not %s\n", fusedmlp_version(), EXPECTED_VERSION);
    return 1;
  }
  return check("gelu:64x256+bias", "\"d_hidden\":256") && check("gelu:64", "\"ok\":false") ? 0 : 1;
}
