// Starts the Go runtime, which this archive must not do by itself: every process of the gateway's program holds the
// archive, and only the one that is the node may hold a Go runtime. The build takes from the loader what would start it,
// and gives the runtime's entry this name (build.rs).

#include <stdlib.h>

#include "_cgo_export.h"

extern void tailops_go_start(int, char **, char **);

extern char **environ;

// Runs the node until it ends, on the configuration as one JSON object. To be called once in a process.
int node_run(const char *config) {
	size_t variables = 0;
	while (environ[variables] != NULL) {
		variables++;
	}
	// What the kernel puts on a stack: arguments, NULL, environment, NULL, auxiliary vector. That one is left empty,
	// so that the runtime asks /proc for it. It keeps pointers into this, so it is never freed.
	char **vector = calloc(variables + 6, sizeof *vector);
	if (vector == NULL) {
		return 1;
	}
	vector[0] = "tailops";
	for (size_t i = 0; i < variables; i++) {
		vector[i + 2] = environ[i];
	}
	tailops_go_start(1, vector, vector + 2);
	return nodeRun((char *)config);
}
