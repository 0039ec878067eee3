// Starts the Go runtime, which this archive must not do by itself: every process of the gateway's program holds the
// archive, and only the one that is the node may hold a Go runtime. The build renames the sections from which the
// loader would start it (build.rs), and node_run calls what stands in them.

#include <stdlib.h>

#include "_cgo_export.h"

typedef void (*start_function)(int, char **, char **);

// The linker makes these two for a section whose name could be one of C.
extern start_function __start_tailops_go_start[];
extern start_function __stop_tailops_go_start[];

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
	for (start_function *start = __start_tailops_go_start; start < __stop_tailops_go_start; start++) {
		(*start)(1, vector, vector + 2);
	}
	return nodeRun((char *)config);
}
