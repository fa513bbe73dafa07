#define _GNU_SOURCE
#include "native.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CK_MECHANISM */
struct mechanism {
	p11_ulong type;
	void *parameter;
	p11_ulong length;
};

/* CK_GCM_PARAMS, PKCS#11 v2.40 errata 01 section 2.12.3 */
struct gcm_params {
	unsigned char *iv;
	p11_ulong iv_length;
	p11_ulong iv_bits;
	unsigned char *aad;
	p11_ulong aad_length;
	p11_ulong tag_bits;
};

enum { CKU_USER = 1, CKM_AES_GCM = 0x1087, CKR_FUNCTION_NOT_SUPPORTED = 0x54 };

typedef p11_ulong (*unused)(void);

/*
 * CK_FUNCTION_LIST. The order is fixed by the specification; entries that are
 * not called here only keep their place.
 */
struct functions {
	unsigned char version[2];
	unused initialize, finalize, get_info, get_function_list, get_slot_list,
	    get_slot_info, get_token_info, get_mechanism_list, get_mechanism_info,
	    init_token, init_pin, set_pin, open_session, close_session,
	    close_all_sessions, get_session_info, get_operation_state,
	    set_operation_state;
	p11_ulong (*login)(p11_ulong, p11_ulong, void *, p11_ulong);
	unused logout;
	p11_ulong (*create_object)(p11_ulong, struct p11_attribute *, p11_ulong, p11_ulong *);
	unused copy_object, destroy_object, get_object_size, get_attribute_value,
	    set_attribute_value, find_objects_init, find_objects,
	    find_objects_final;
	p11_ulong (*encrypt_init)(p11_ulong, struct mechanism *, p11_ulong);
	p11_ulong (*encrypt)(p11_ulong, void *, p11_ulong, void *, p11_ulong *);
	unused encrypt_update, encrypt_final;
	p11_ulong (*decrypt_init)(p11_ulong, struct mechanism *, p11_ulong);
	p11_ulong (*decrypt)(p11_ulong, void *, p11_ulong, void *, p11_ulong *);
	unused decrypt_update, decrypt_final, digest_init, digest, digest_update,
	    digest_key, digest_final;
	p11_ulong (*sign_init)(p11_ulong, struct mechanism *, p11_ulong);
	p11_ulong (*sign)(p11_ulong, void *, p11_ulong, void *, p11_ulong *);
	unused sign_update, sign_final, sign_recover_init, sign_recover,
	    verify_init, verify, verify_update, verify_final,
	    verify_recover_init, verify_recover, digest_encrypt_update,
	    decrypt_digest_update, sign_encrypt_update, decrypt_verify_update;
	p11_ulong (*generate_key)(p11_ulong, struct mechanism *, struct p11_attribute *,
				  p11_ulong, p11_ulong *);
	p11_ulong (*generate_key_pair)(p11_ulong, struct mechanism *,
				       struct p11_attribute *, p11_ulong,
				       struct p11_attribute *, p11_ulong,
				       p11_ulong *, p11_ulong *);
	p11_ulong (*wrap_key)(p11_ulong, struct mechanism *, p11_ulong, p11_ulong,
			      void *, p11_ulong *);
	p11_ulong (*unwrap_key)(p11_ulong, struct mechanism *, p11_ulong, void *,
				p11_ulong, struct p11_attribute *, p11_ulong,
				p11_ulong *);
	unused derive_key;
	p11_ulong (*seed_random)(p11_ulong, void *, p11_ulong);
	p11_ulong (*generate_random)(p11_ulong, void *, p11_ulong);
};

struct p11_module {
	void *handle;
	struct functions *f;
};

/*
 * RTLD_NODELETE: the library stays mapped for the life of the process. The
 * threads that ran in it may hold thread-local destructors of the library or
 * of the crypto library below it, and unmapping those crashes at thread exit.
 */
struct p11_module *p11_load(const char *path, char *message, size_t size)
{
	p11_ulong (*get)(struct functions **) = NULL;
	struct p11_module *m = calloc(1, sizeof(*m));

	if (m == NULL) {
		snprintf(message, size, "out of memory");
		return NULL;
	}
	m->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (m->handle != NULL)
		*(void **)&get = dlsym(m->handle, "C_GetFunctionList");
	if (get == NULL) {
		const char *why = dlerror();
		snprintf(message, size, "%s", why ? why : "no C_GetFunctionList");
		p11_unload(m);
		return NULL;
	}
	if (get(&m->f) != 0 || m->f == NULL) {
		snprintf(message, size, "C_GetFunctionList failed");
		p11_unload(m);
		return NULL;
	}
	return m;
}

void p11_unload(struct p11_module *m)
{
	if (m == NULL)
		return;
	if (m->handle != NULL)
		dlclose(m->handle);
	free(m);
}

void p11_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}

p11_ulong p11_login(struct p11_module *m, p11_ulong session, void *pin, p11_ulong n)
{
	return m->f->login(session, CKU_USER, pin, n);
}

p11_ulong p11_random(struct p11_module *m, p11_ulong session, void *out, p11_ulong n)
{
	return m->f->generate_random(session, out, n);
}

/* Some modules leave optional functions NULL against the specification. */
p11_ulong p11_seed(struct p11_module *m, p11_ulong session, void *seed, p11_ulong n)
{
	if (m->f->seed_random == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->seed_random(session, seed, n);
}

p11_ulong p11_create(struct p11_module *m, p11_ulong session,
		     struct p11_attribute *t, p11_ulong n, p11_ulong *object)
{
	if (m->f->create_object == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->create_object(session, t, n, object);
}

p11_ulong p11_generate_key(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
			   struct p11_attribute *t, p11_ulong n, p11_ulong *key)
{
	struct mechanism mech = { mechanism, NULL, 0 };

	if (m->f->generate_key == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->generate_key(session, &mech, t, n, key);
}

p11_ulong p11_generate_pair(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
			    struct p11_attribute *pub, p11_ulong npub,
			    struct p11_attribute *priv, p11_ulong npriv, p11_ulong *keys)
{
	struct mechanism mech = { mechanism, NULL, 0 };

	if (m->f->generate_key_pair == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->generate_key_pair(session, &mech, pub, npub, priv, npriv,
				       &keys[0], &keys[1]);
}

p11_ulong p11_sign(struct p11_module *m, p11_ulong session, p11_ulong mechanism, p11_ulong key,
		   void *data, p11_ulong len, void *out, p11_ulong *n, int *begun)
{
	struct mechanism mech = { mechanism, NULL, 0 };
	p11_ulong rv;

	*begun = 0;
	rv = m->f->sign_init(session, &mech, key);
	if (rv != 0)
		return rv;
	*begun = 1;
	return m->f->sign(session, data, len, out, n);
}

p11_ulong p11_gcm(struct p11_module *m, int encrypt, p11_ulong session, p11_ulong key,
		  void *nonce, p11_ulong noncelen, void *data, p11_ulong len,
		  void *out, p11_ulong *n, int *begun)
{
	struct gcm_params gcm = { nonce, noncelen, noncelen * 8, NULL, 0, 128 };
	struct mechanism mech = { CKM_AES_GCM, &gcm, sizeof(gcm) };
	p11_ulong rv;

	*begun = 0;
	if (m->f->encrypt_init == NULL || m->f->decrypt_init == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	rv = encrypt ? m->f->encrypt_init(session, &mech, key)
		     : m->f->decrypt_init(session, &mech, key);
	if (rv != 0)
		return rv;
	*begun = 1;
	return encrypt ? m->f->encrypt(session, data, len, out, n)
		       : m->f->decrypt(session, data, len, out, n);
}

p11_ulong p11_wrap(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
		   p11_ulong wrapping, p11_ulong key, void *out, p11_ulong *n)
{
	struct mechanism mech = { mechanism, NULL, 0 };

	if (m->f->wrap_key == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->wrap_key(session, &mech, wrapping, key, out, n);
}

p11_ulong p11_unwrap(struct p11_module *m, p11_ulong session, p11_ulong mechanism,
		     p11_ulong unwrapping, void *wrapped, p11_ulong len,
		     struct p11_attribute *t, p11_ulong n, p11_ulong *key)
{
	struct mechanism mech = { mechanism, NULL, 0 };

	if (m->f->unwrap_key == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	return m->f->unwrap_key(session, &mech, unwrapping, wrapped, len, t, n, key);
}
