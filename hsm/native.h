/*
 * The part of the PKCS#11 v2.40 interface that the Go wrapper library cannot
 * call safely: functions that carry secrets, and nested templates.
 *
 * Layouts follow OASIS PKCS#11 Base Specification v2.40, for platforms where
 * structures have natural alignment (everything but Windows).
 */
#ifndef SIGILD_HSM_NATIVE_H
#define SIGILD_HSM_NATIVE_H

#include <stddef.h>

typedef unsigned long p11_ulong;

/* CK_ATTRIBUTE */
struct p11_attribute {
	p11_ulong type;
	void *value;
	p11_ulong length;
};

/* A loaded module: the handle of dlopen and the module's function list. */
struct p11_module;

/*
 * p11_load opens the module and fetches its function list. It returns NULL on
 * failure and then fills message (always NUL-terminated).
 */
struct p11_module *p11_load(const char *path, char *message, size_t size);
void p11_unload(struct p11_module *m);

/* p11_wipe clears n bytes in a way that the compiler may not remove. */
void p11_wipe(void *p, size_t n);

p11_ulong p11_login(struct p11_module *m, p11_ulong session, void *pin, p11_ulong n);
p11_ulong p11_random(struct p11_module *m, p11_ulong session, void *out, p11_ulong n);
p11_ulong p11_seed(struct p11_module *m, p11_ulong session, void *seed, p11_ulong n);

p11_ulong p11_create(struct p11_module *m, p11_ulong session,
		     struct p11_attribute *t, p11_ulong n, p11_ulong *object);
p11_ulong p11_generate_key(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
			   struct p11_attribute *t, p11_ulong n, p11_ulong *key);
p11_ulong p11_generate_pair(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
			    struct p11_attribute *pub, p11_ulong npub,
			    struct p11_attribute *priv, p11_ulong npriv, p11_ulong *keys);

/*
 * One-shot operations: Init and the operation in one transition from Go. *n is
 * the room in out on entry and the bytes written on return. *begun tells
 * whether Init succeeded, that is whether an operation may still be active
 * after a failure.
 */
p11_ulong p11_sign(struct p11_module *m, p11_ulong session, p11_ulong mechanism, p11_ulong key,
		   void *data, p11_ulong len, void *out, p11_ulong *n, int *begun);
p11_ulong p11_gcm(struct p11_module *m, int encrypt, p11_ulong session, p11_ulong key,
		  void *nonce, p11_ulong noncelen, void *data, p11_ulong len,
		  void *out, p11_ulong *n, int *begun);

p11_ulong p11_wrap(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
		   p11_ulong wrapping, p11_ulong key, void *out, p11_ulong *n);
p11_ulong p11_unwrap(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
		     p11_ulong unwrapping, void *wrapped, p11_ulong len,
		     struct p11_attribute *t, p11_ulong n, p11_ulong *key);

#endif
