/*
 * A PKCS#11 module for tests that passes every call on to SoftHSM, unless a
 * fault is set for the function. Faults are files in the directory named by
 * SIGILD_TEST_FAULTS:
 *
 *   NAME       the function C_NAME does not reach SoftHSM and returns the code
 *              in the file (decimal)
 *   NAME.after as above, but only after SoftHSM was called
 *   NAME.hang  the function waits until the file is gone, then goes on
 *   NAME.once  as NAME, and the file is removed by the call that it hits
 *
 * Every call of a function that can be made to fail is counted as one byte at
 * the end of the file NAME.calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);

/* CK_FUNCTION_LIST: a version, then functions in a fixed order. */
enum { FUNCTIONS = 68 };
struct list {
	unsigned char version[2];
	function f[FUNCTIONS];
};

static struct list *real;
static struct list mine;

static int fault_path(char *out, size_t size, const char *name, const char *suffix)
{
	const char *dir = getenv("SIGILD_TEST_FAULTS");

	return dir != NULL && snprintf(out, size, "%s/%s%s", dir, name, suffix) < (int)size;
}

static int read_code(const char *name, const char *suffix, ulong_t *code)
{
	char path[4096];
	FILE *f;
	int ok;

	if (!fault_path(path, sizeof(path), name, suffix) || (f = fopen(path, "r")) == NULL)
		return 0;
	ok = fscanf(f, "%lu", code) == 1;
	fclose(f);
	if (ok && strcmp(suffix, ".once") == 0)
		ok = unlink(path) == 0;
	return ok;
}

static void count(const char *name)
{
	char path[4096];
	int fd;

	if (!fault_path(path, sizeof(path), name, ".calls"))
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd >= 0) {
		if (write(fd, ".", 1) != 1)
			abort();
		close(fd);
	}
}

static void hang(const char *name)
{
	struct timespec ms = { 0, 1000000 };
	char path[4096];

	if (!fault_path(path, sizeof(path), name, ".hang"))
		return;
	while (access(path, F_OK) == 0)
		nanosleep(&ms, NULL);
}

/*
 * All PKCS#11 functions take integers and pointers, at most eight: on the
 * platforms that the tests run on, both travel as machine words and surplus
 * ones do no harm.
 */
static ulong_t pass(const char *name, int i, ulong_t a, ulong_t b, ulong_t c, ulong_t d,
		    ulong_t e, ulong_t g, ulong_t h, ulong_t j)
{
	ulong_t code, after, rv;

	count(name);
	hang(name);
	if (read_code(name, "", &code) || read_code(name, ".once", &code))
		return code;
	rv = real->f[i](a, b, c, d, e, g, h, j);
	return read_code(name, ".after", &after) ? after : rv;
}

#define WRAPPED(NAME, INDEX)                                                          \
	static ulong_t wrapped_##NAME(ulong_t a, ulong_t b, ulong_t c, ulong_t d,     \
				      ulong_t e, ulong_t g, ulong_t h, ulong_t j)     \
	{                                                                             \
		return pass(#NAME, INDEX, a, b, c, d, e, g, h, j);                    \
	}

#define EACH(X)                                                                       \
	X(Initialize, 0) X(GetSlotList, 4) X(GetTokenInfo, 6) X(GetMechanismList, 7)  \
	X(OpenSession, 12) X(CloseSession, 13) X(GetSessionInfo, 15) X(Login, 18)     \
	X(Logout, 19) X(CreateObject, 20) X(DestroyObject, 22)                        \
	X(GetAttributeValue, 24) X(FindObjectsInit, 26) X(FindObjects, 27)            \
	X(FindObjectsFinal, 28) X(Encrypt, 30) X(Decrypt, 34) X(SignInit, 42)         \
	X(Sign, 43) X(GenerateKey, 58) X(GenerateKeyPair, 59) X(WrapKey, 60)          \
	X(UnwrapKey, 61) X(SeedRandom, 63) X(GenerateRandom, 64)

EACH(WRAPPED)

#define INSTALL(NAME, INDEX) mine.f[INDEX] = wrapped_##NAME;

ulong_t C_GetFunctionList(struct list **out)
{
	const char *path = getenv("SIGILD_TEST_MODULE");
	ulong_t (*get)(struct list **) = NULL;
	void *handle;

	if (path == NULL || (handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) == NULL)
		return 5;
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
	if (get == NULL || get(&real) != 0)
		return 5;
	mine = *real;
	EACH(INSTALL)
	*out = &mine;
	return 0;
}
