/*
 * A PKCS#11 module for tests that passes every call on to SoftHSM, unless it was
 * told otherwise. It is told over a Unix socket: when it is loaded it connects to
 * the path in SIGILD_TEST_FAULTS and reads commands, one a line, each answered by
 * "ok" and a number. Up to the line "go" they are read before the module answers
 * its first call; afterwards a thread reads them.
 *
 *   fail F CODE N     the function does nothing and returns CODE, N times (-1: for ever);
 *                     C_Sign that returns 0 so is not one by ECDSA: see "wrong"
 *   after F CODE N    the same, but SoftHSM has done the work
 *   hang F N          the next N calls (-1: all) wait until the function is cleared
 *   spare F N         the next N calls do neither of these
 *   twice F CODE      the next call and the one after the next do nothing and return CODE
 *   slow F MS         each call takes MS milliseconds longer
 *   clear F           ends what is set for the function; "clear *" ends everything
 *   losesessions      closes every session, which logs out
 *   logout            logs out
 *   vanish            the token is pulled out: sessions die, the slot is empty
 *   return OFFSET     it is put in again; slot numbers are higher by OFFSET
 *   locks N           N wrong user PINs in a row lock the user PIN (0: none do);
 *                     the tally "pin.tries" counts them, over processes
 *   locked B          the user PIN is locked (1) or is not (0)
 *   hide MECHANISM    the mechanism does not exist
 *   rename FROM TO    the mechanism FROM is known as TO
 *   notemplates B     keys with CKA_UNWRAP_TEMPLATE are refused
 *   nocreate CODE     C_CreateObject of private keys and AES keys returns CODE (0: it
 *                     does not)
 *   wrong N           the next N ECDSA signatures are wrong (-1: all); after
 *                     "learn 1", those by remembered keys alone
 *   keeprandom B      write the bytes of each C_GenerateRandom into the file
 *                     SIGILD_TEST_FAULTS.random, in the place of those before
 *   learn B           remember the values of session key pairs made from now on
 *   nonce B           sign by those with the nonce 1, every time
 *   try WHAT ARG      does what a module that was broken into would: "read" or
 *                     "create" a file, "run" a program, "connect" to a TCP port of
 *                     this host. The tally "tried" has what the thread of commands
 *                     got, and "tried.call" what the next call of a function did:
 *                     the number of the error, or 1000
 *   measure           counts open sessions and session objects into the tallies
 *                     "sessions" and "objects"
 *   memory            writes the bytes that C code of the process has allocated
 *                     into the tally "allocated", and those that its allocator
 *                     holds for it, free ones included, into "held"
 *
 * F is a name as in "C_Sign".
 *
 * Every call is counted in the file SIGILD_TEST_FAULTS.calls, which outlives the
 * process: for each function its name (24 bytes) and the count (8, native).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);

/* Every function of PKCS#11 v2.40, in the order of CK_FUNCTION_LIST. */
#define EACH(X)                                                                              \
	X(Initialize) X(Finalize) X(GetInfo) X(GetFunctionList) X(GetSlotList)               \
	X(GetSlotInfo) X(GetTokenInfo) X(GetMechanismList) X(GetMechanismInfo) X(InitToken)  \
	X(InitPIN) X(SetPIN) X(OpenSession) X(CloseSession) X(CloseAllSessions)              \
	X(GetSessionInfo) X(GetOperationState) X(SetOperationState) X(Login) X(Logout)       \
	X(CreateObject) X(CopyObject) X(DestroyObject) X(GetObjectSize) X(GetAttributeValue) \
	X(SetAttributeValue) X(FindObjectsInit) X(FindObjects) X(FindObjectsFinal)           \
	X(EncryptInit) X(Encrypt) X(EncryptUpdate) X(EncryptFinal) X(DecryptInit)            \
	X(Decrypt) X(DecryptUpdate) X(DecryptFinal) X(DigestInit) X(Digest) X(DigestUpdate)  \
	X(DigestKey) X(DigestFinal) X(SignInit) X(Sign) X(SignUpdate) X(SignFinal)           \
	X(SignRecoverInit) X(SignRecover) X(VerifyInit) X(Verify) X(VerifyUpdate)            \
	X(VerifyFinal) X(VerifyRecoverInit) X(VerifyRecover) X(DigestEncryptUpdate)          \
	X(DecryptDigestUpdate) X(SignEncryptUpdate) X(DecryptVerifyUpdate) X(GenerateKey)    \
	X(GenerateKeyPair) X(WrapKey) X(UnwrapKey) X(DeriveKey) X(SeedRandom)                \
	X(GenerateRandom) X(GetFunctionStatus) X(CancelFunction) X(WaitForSlotEvent)

#define ID(NAME) F_##NAME,
enum { EACH(ID) FUNCTIONS };
#define TEXT(NAME) "C_" #NAME,
static const char *const names[] = { EACH(TEXT) };

struct list {
	unsigned char version[2];
	function f[FUNCTIONS];
};

struct attribute {
	ulong_t type;
	void *value;
	ulong_t size;
};

enum {
	CKR_OK = 0, CKR_GENERAL_ERROR = 5,
	CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_DEVICE_REMOVED = 0x32, CKR_MECHANISM_INVALID = 0x70,
	CKR_PIN_INCORRECT = 0xa0, CKR_PIN_LOCKED = 0xa4, CKR_TOKEN_NOT_PRESENT = 0xe0,
	CKA_CLASS = 0, CKA_KEY_TYPE = 0x100, CKO_PRIVATE_KEY = 3, CKK_AES = 0x1f,
	CKA_TOKEN = 1, CKA_VALUE = 0x11, CKA_SENSITIVE = 0x103,
	CKA_UNWRAP_TEMPLATE = 0x40000212, CKM_ECDSA = 0x1041,
	FLAGS_OFFSET = 96, /* of CK_TOKEN_INFO */
	CKF_COUNT_LOW = 0x10000, CKF_FINAL_TRY = 0x20000, CKF_LOCKED = 0x40000,
};

static struct list *real;
static struct list mine;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/*
 * Held for reading by calls that are in SoftHSM, and for writing by what takes
 * their sessions away: SoftHSM frees a session that another thread is using, and
 * dies of it. Writers go first, or calls without a pause would keep them waiting.
 */
static pthread_rwlock_t inside = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static long calls_inside;
static pthread_cond_t cleared = PTHREAD_COND_INITIALIZER;
static FILE *commands, *answers;
enum { T_sessions = FUNCTIONS, T_objects, T_tried, T_tried_call, T_allocated, T_held, T_pin_tries, TALLIES };
static struct tally { char name[24]; uint64_t calls; } *tallies;

/* All below is under the mutex. */
static struct fault {
	ulong_t code, after;
	long fails, afters, hangs, slow; /* fails, afters, hangs: how many more; -1: all */
	long spared;                     /* calls that come before those that fail or hang */
	long pause;                      /* what spared becomes with each that failed */
	ulong_t epoch;                   /* grows when it is cleared */
} faults[FUNCTIONS];
static long open_sessions;
static ulong_t no_create;
static int absent, no_templates, learning, repeating, pin_locked, keeping_random;
static long wrong, pin_limit;
static ulong_t offset;
enum { MECHANISMS = 16 };
static struct { ulong_t from, to; int set; } renamed[MECHANISMS]; /* to 0: hidden */

enum { KEYS = 256, BLOB = 256, SESSIONS = 512 };
static struct { ulong_t session, mechanism, key; } begun[SESSIONS];
static struct known { ulong_t handle; unsigned char d[32]; unsigned char blob[BLOB]; ulong_t size; } known[KEYS];
static int next_known;

static int spend(long *n)
{
	if (*n > 0)
		return (*n)--, 1;
	return *n < 0;
}

/* ---- arithmetic modulo the order of secp256k1, 4 words, lowest first ---- */

typedef struct { uint64_t w[4]; } number;

static const number order = { { 0xbfd25e8cd0364141, 0xbaaedce6af48a03b, 0xfffffffffffffffe, 0xffffffffffffffff } };
static const number generator_x = { { 0x59f2815b16f81798, 0x029bfcdb2dce28d9, 0x55a06295ce870b07, 0x79be667ef9dcbbac } };

static int add(number *r, number a, number b)
{
	unsigned __int128 t = 0;

	for (int i = 0; i < 4; i++) {
		t += (unsigned __int128)a.w[i] + b.w[i];
		r->w[i] = (uint64_t)t;
		t >>= 64;
	}
	return (int)t;
}

static int at_least(number a, number b)
{
	for (int i = 3; i >= 0; i--)
		if (a.w[i] != b.w[i])
			return a.w[i] > b.w[i];
	return 1;
}

static void subtract(number *a, number b)
{
	unsigned __int128 borrow = 0;

	for (int i = 0; i < 4; i++) {
		unsigned __int128 t = (unsigned __int128)a->w[i] - b.w[i] - borrow;
		a->w[i] = (uint64_t)t;
		borrow = (t >> 64) & 1;
	}
}

static number add_mod(number a, number b)
{
	number r;

	if (add(&r, a, b) || at_least(r, order))
		subtract(&r, order);
	return r;
}

static number multiply_mod(number a, number b)
{
	number r = { { 0 } };

	for (int i = 255; i >= 0; i--) {
		r = add_mod(r, r);
		if (b.w[i / 64] >> (i % 64) & 1)
			r = add_mod(r, a);
	}
	return r;
}

static number from_bytes(const unsigned char *b)
{
	number r = { { 0 } };

	for (int i = 0; i < 32; i++)
		r.w[3 - i / 8] |= (uint64_t)b[i] << (56 - 8 * (i % 8));
	if (at_least(r, order))
		subtract(&r, order);
	return r;
}

static void to_bytes(unsigned char *b, number n)
{
	for (int i = 0; i < 32; i++)
		b[i] = (unsigned char)(n.w[3 - i / 8] >> (56 - 8 * (i % 8)));
}

/* With the nonce 1, r is the generator's x and s is z + r·d. */
static void sign_with_nonce_one(unsigned char *out, const unsigned char *digest, const unsigned char *d)
{
	to_bytes(out, generator_x);
	to_bytes(out + 32, add_mod(from_bytes(digest), multiply_mod(generator_x, from_bytes(d))));
}

/* ---- what the module knows of keys ---- */

static struct known *known_handle(ulong_t handle)
{
	for (int i = 0; i < KEYS; i++)
		if (known[i].handle == handle && handle != 0)
			return &known[i];
	return NULL;
}

static struct known *known_blob(const void *blob, ulong_t size)
{
	for (int i = 0; i < KEYS; i++)
		if (known[i].size == size && size > 0 && memcmp(known[i].blob, blob, size) == 0)
			return &known[i];
	return NULL;
}

static struct known *new_known(ulong_t handle)
{
	struct known *k = &known[next_known++ % KEYS];

	memset(k, 0, sizeof(*k));
	k->handle = handle;
	return k;
}

static void learn(ulong_t session, ulong_t handle)
{
	struct known *k = new_known(handle);
	unsigned char d[32];
	struct attribute value = { CKA_VALUE, d, sizeof(d) };

	if (real->f[F_GetAttributeValue](session, handle, (ulong_t)&value, 1, 0, 0, 0, 0) != CKR_OK || value.size > 32) {
		k->handle = 0;
		return;
	}
	memcpy(k->d + 32 - value.size, d, value.size); /* one in 256 comes without its leading zero */
}

static ulong_t generate_readable(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t g, ulong_t h, ulong_t j)
{
	struct attribute t[32];
	unsigned char no = 0;
	ulong_t rv;

	if (g > 32)
		return CKR_GENERAL_ERROR;
	memcpy(t, (void *)e, g * sizeof(t[0]));
	for (ulong_t i = 0; i < g; i++) {
		if (t[i].type == CKA_TOKEN && *(unsigned char *)t[i].value)
			return real->f[F_GenerateKeyPair](a, b, c, d, e, g, h, j);
		if (t[i].type == CKA_SENSITIVE)
			t[i].value = &no;
	}
	rv = real->f[F_GenerateKeyPair](a, b, c, d, (ulong_t)t, g, h, j);
	if (rv == CKR_OK)
		learn(a, *(ulong_t *)j);
	return rv;
}

static int begin(ulong_t session)
{
	int free_place = 0;

	for (int i = 0; i < SESSIONS; i++) {
		if (begun[i].session == session)
			return i;
		if (begun[i].session == 0)
			free_place = i;
	}
	begun[free_place].session = session;
	return free_place;
}

static void spoil(ulong_t session, const unsigned char *digest, ulong_t size, unsigned char *out, ulong_t *written)
{
	int i = begin(session);
	struct known *k = known_handle(begun[i].key);

	if (begun[i].mechanism != CKM_ECDSA || out == NULL || *written != 64 || size != 32)
		return;
	if (repeating && k != NULL)
		sign_with_nonce_one(out, digest, k->d);
	if ((k != NULL || !learning) && spend(&wrong))
		out[40] ^= 1;
}

/* ---- mechanisms ---- */

/* inward gives the number that SoftHSM knows, 0 when there is none. */
static ulong_t inward(ulong_t m)
{
	ulong_t out = m;

	for (int i = 0; i < MECHANISMS; i++) {
		if (renamed[i].set && renamed[i].to == m)
			return renamed[i].from;
		if (renamed[i].set && renamed[i].from == m)
			out = 0;
	}
	return out;
}

static void list_mechanisms(ulong_t *m, ulong_t *count)
{
	ulong_t n = 0;

	for (ulong_t i = 0; m != NULL && i < *count; i++) {
		ulong_t shown = m[i];

		for (int r = 0; r < MECHANISMS; r++)
			if (renamed[r].set && renamed[r].from == m[i])
				shown = renamed[r].to;
		if (shown != 0)
			m[n++] = shown;
	}
	if (m != NULL)
		*count = n;
}

/* ---- what a broken module would do ---- */

enum { DONE = 1000 };
static char attempt_what[16], attempt_path[256];
static int attempt_waits; /* for the next call of a function */

static int open_and_close(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	return fd >= 0 ? close(fd) : -1;
}

static int connect_to(const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int got, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -1;
	got = connect(fd, (struct sockaddr *)&address, sizeof(address));
	error = errno;
	close(fd);
	errno = error;
	return got;
}

static int run_program(const char *path)
{
	char *arguments[] = { (char *)path, NULL };
	pid_t pid;

	errno = posix_spawn(&pid, path, NULL, NULL, arguments, NULL);
	return errno == 0 ? 0 : -1;
}

static uint64_t attempt(void)
{
	int got = -1;

	errno = EINVAL;
	if (strcmp(attempt_what, "read") == 0)
		got = open_and_close(attempt_path, O_RDONLY);
	else if (strcmp(attempt_what, "create") == 0)
		got = open_and_close(attempt_path, O_RDWR | O_CREAT);
	else if (strcmp(attempt_what, "connect") == 0)
		got = connect_to(attempt_path);
	else if (strcmp(attempt_what, "run") == 0)
		got = run_program(attempt_path);
	return got == 0 ? DONE : (uint64_t)errno;
}

/* ---- one call ---- */

static int has_slot(int i)
{
	return i == F_GetSlotInfo || i == F_GetTokenInfo || i == F_GetMechanismList || i == F_GetMechanismInfo ||
	       i == F_InitToken || i == F_OpenSession || i == F_CloseAllSessions;
}

static int has_mechanism(int i)
{
	return i == F_EncryptInit || i == F_DecryptInit || i == F_DigestInit || i == F_SignInit || i == F_VerifyInit ||
	       i == F_GenerateKey || i == F_GenerateKeyPair || i == F_WrapKey || i == F_UnwrapKey || i == F_DeriveKey;
}

static int asks_for_template(const struct attribute *t, ulong_t n)
{
	while (n-- > 0)
		if (t++->type == CKA_UNWRAP_TEMPLATE)
			return 1;
	return 0;
}

/* Whether a template is that of a private key or an AES key. */
static int is_custody(const struct attribute *t, ulong_t n)
{
	for (; n > 0; n--, t++)
		if ((t->type == CKA_CLASS && *(ulong_t *)t->value == CKO_PRIVATE_KEY) ||
		    (t->type == CKA_KEY_TYPE && *(ulong_t *)t->value == CKK_AES))
			return 1;
	return 0;
}

static void wait_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	if (ms > 0)
		nanosleep(&t, NULL);
}

/* signs_by_ecdsa reports whether the session has begun an ECDSA signature. */
static int signs_by_ecdsa(ulong_t session)
{
	return begun[begin(session)].mechanism == CKM_ECDSA;
}

/* before decides, under the mutex, whether the call, of this first argument, goes on. */
static int before(int i, ulong_t first, ulong_t *rv)
{
	struct fault *f = &faults[i];
	ulong_t epoch = f->epoch;
	long slow = f->slow;

	tallies[i].calls++;
	if (attempt_waits)
		attempt_waits = 0, tallies[T_tried_call].calls = attempt();
	if (slow > 0) {
		pthread_mutex_unlock(&mutex);
		wait_ms(slow);
		pthread_mutex_lock(&mutex);
	}
	if (f->spared > 0) {
		f->spared--;
	} else {
		if (spend(&f->hangs))
			while (f->epoch == epoch)
				pthread_cond_wait(&cleared, &mutex);
		if (!(i == F_Sign && f->code == CKR_OK && signs_by_ecdsa(first)) && spend(&f->fails))
			return f->spared = f->fails != 0 ? f->pause : 0, *rv = f->code, 0;
	}
	if (absent && (has_slot(i) || (i > F_CloseAllSessions && i != F_WaitForSlotEvent) || i == F_CloseSession))
		return *rv = has_slot(i) ? CKR_TOKEN_NOT_PRESENT : CKR_DEVICE_REMOVED, 0;
	if (i == F_Login && pin_locked)
		return *rv = CKR_PIN_LOCKED, 0;
	return 1;
}

static void after_login(ulong_t *rv)
{
	uint64_t *tries = &tallies[T_pin_tries].calls;

	if (*rv == CKR_OK)
		*tries = 0;
	if (*rv != CKR_PIN_INCORRECT || pin_limit == 0)
		return;
	if (++*tries >= (uint64_t)pin_limit)
		pin_locked = 1;
}

static void after_token_info(unsigned char *info)
{
	uint64_t tries = tallies[T_pin_tries].calls;
	ulong_t flags;

	memcpy(&flags, info + FLAGS_OFFSET, sizeof(flags));
	if (tries > 0)
		flags |= CKF_COUNT_LOW;
	if (pin_limit > 0 && tries == (uint64_t)pin_limit - 1)
		flags |= CKF_FINAL_TRY;
	if (pin_locked)
		flags |= CKF_LOCKED;
	memcpy(info + FLAGS_OFFSET, &flags, sizeof(flags));
}

static void keep_random(const void *bytes, ulong_t n)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s.random", getenv("SIGILD_TEST_FAULTS"));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort(); /* the test could only guess why it fails */
	close(fd);
}

/* after changes, under the mutex, what SoftHSM answered. */
static void after(int i, ulong_t *rv, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t g, ulong_t j)
{
	struct known *k;

	if (i == F_Login)
		after_login(rv);
	if (spend(&faults[i].afters))
		*rv = faults[i].after;
	if (*rv != CKR_OK)
		return;
	switch (i) {
	case F_OpenSession:
		open_sessions++;
		break;
	case F_CloseSession:
		open_sessions--;
		break;
	case F_CloseAllSessions:
	case F_Finalize:
		open_sessions = 0;
		break;
	case F_GetSlotList:
		for (ulong_t n = 0; b != 0 && n < *(ulong_t *)c; n++)
			((ulong_t *)b)[n] += offset;
		break;
	case F_GetTokenInfo:
		after_token_info((unsigned char *)b);
		break;
	case F_GenerateRandom:
		if (keeping_random)
			keep_random((const void *)b, c);
		break;
	case F_GetMechanismList:
		list_mechanisms((ulong_t *)b, (ulong_t *)c);
		break;
	case F_SignInit:
		begun[begin(a)].key = c;
		begun[begin(a)].mechanism = *(ulong_t *)b;
		break;
	case F_Sign:
		spoil(a, (unsigned char *)b, c, (unsigned char *)d, (ulong_t *)e);
		break;
	case F_WrapKey:
		if ((k = known_handle(d)) != NULL && e != 0 && *(ulong_t *)g <= BLOB)
			memcpy(k->blob, (void *)e, k->size = *(ulong_t *)g);
		break;
	case F_UnwrapKey:
		if ((k = known_blob((void *)d, e)) != NULL) {
			struct known copy = *k;
			copy.handle = *(ulong_t *)j;
			*new_known(0) = copy;
		}
		break;
	}
}

/*
 * All PKCS#11 functions take integers and pointers, at most eight: on the
 * platforms that the tests run on, both travel as machine words and surplus ones
 * do no harm.
 */
static ulong_t pass(int i, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t g, ulong_t h, ulong_t j)
{
	ulong_t rv, mechanism[3];
	int go, teach;

	pthread_mutex_lock(&mutex);
	go = before(i, a, &rv);
	if (go && has_slot(i))
		a -= offset;
	if (go && (has_mechanism(i) || i == F_GetMechanismInfo)) {
		memcpy(mechanism, has_mechanism(i) ? (void *)b : (void *)&b, has_mechanism(i) ? sizeof(mechanism) : sizeof(b));
		mechanism[0] = inward(mechanism[0]);
		if (mechanism[0] == 0)
			go = 0, rv = CKR_MECHANISM_INVALID;
		b = has_mechanism(i) ? (ulong_t)mechanism : mechanism[0];
	}
	if (go && i == F_GenerateKey && no_templates && asks_for_template((struct attribute *)c, d))
		go = 0, rv = CKR_ATTRIBUTE_TYPE_INVALID;
	if (go && i == F_CreateObject && no_create && is_custody((struct attribute *)b, c))
		go = 0, rv = no_create;
	if (go && i == F_GetSlotList && absent && a)
		*(ulong_t *)c = 0, go = 0, rv = CKR_OK;
	teach = learning && i == F_GenerateKeyPair;
	pthread_mutex_unlock(&mutex);
	if (!go)
		return rv;
	pthread_rwlock_rdlock(&inside);
	pthread_mutex_lock(&mutex);
	if (i == F_Finalize && calls_inside > 0) {
		fprintf(stderr, "faulty: C_Finalize while %ld calls are in the module\n", calls_inside);
		abort();
	}
	calls_inside++;
	pthread_mutex_unlock(&mutex);
	if (teach)
		rv = generate_readable(a, b, c, d, e, g, h, j);
	else
		rv = real->f[i](a, b, c, d, e, g, h, j);
	pthread_rwlock_unlock(&inside);
	pthread_mutex_lock(&mutex);
	calls_inside--;
	after(i, &rv, a, b, c, d, e, g, j);
	pthread_mutex_unlock(&mutex);
	return rv;
}

#define WRAPPED(NAME)                                                                        \
	static ulong_t wrapped_##NAME(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, \
				      ulong_t g, ulong_t h, ulong_t j)                       \
	{                                                                                    \
		return pass(F_##NAME, a, b, c, d, e, g, h, j);                               \
	}
EACH(WRAPPED)

/* ---- commands ---- */

static void each_slot(void (*act)(ulong_t))
{
	ulong_t slots[64], n = 64;

	if (real->f[F_GetSlotList](1, (ulong_t)slots, (ulong_t)&n, 0, 0, 0, 0, 0) == CKR_OK)
		for (ulong_t i = 0; i < n; i++)
			act(slots[i]);
}

static void close_sessions(ulong_t slot)
{
	real->f[F_CloseAllSessions](slot, 0, 0, 0, 0, 0, 0, 0);
	open_sessions = 0;
}

static void log_out(ulong_t slot)
{
	ulong_t session;

	if (real->f[F_OpenSession](slot, 4, 0, 0, (ulong_t)&session, 0, 0, 0) != CKR_OK)
		return;
	real->f[F_Logout](session, 0, 0, 0, 0, 0, 0, 0);
	real->f[F_CloseSession](session, 0, 0, 0, 0, 0, 0, 0);
}

static void count_objects(ulong_t slot)
{
	unsigned char no = 0;
	struct attribute of_session = { CKA_TOKEN, &no, sizeof(no) };
	ulong_t session, found[256], n = 0;

	if (real->f[F_OpenSession](slot, 4, 0, 0, (ulong_t)&session, 0, 0, 0) != CKR_OK)
		return;
	if (real->f[F_FindObjectsInit](session, (ulong_t)&of_session, 1, 0, 0, 0, 0, 0) == CKR_OK)
		real->f[F_FindObjects](session, (ulong_t)found, 256, (ulong_t)&n, 0, 0, 0, 0);
	real->f[F_CloseSession](session, 0, 0, 0, 0, 0, 0, 0);
	tallies[T_objects].calls += n;
}

static void measure(void)
{
	tallies[T_sessions].calls = (uint64_t)open_sessions;
	tallies[T_objects].calls = 0;
	each_slot(count_objects);
}

/* mallinfo2 sums over all arenas. */
static void account_memory(void)
{
	struct mallinfo2 m = mallinfo2();

	tallies[T_allocated].calls = m.uordblks + m.hblkhd;
	tallies[T_held].calls = m.arena + m.hblkhd;
}

static void clear(struct fault *f)
{
	f->fails = f->afters = f->hangs = f->slow = f->spared = f->pause = 0;
	f->epoch++;
	pthread_cond_broadcast(&cleared);
}

static void clear_all(void)
{
	for (int i = 0; i < FUNCTIONS; i++)
		clear(&faults[i]);
	memset(renamed, 0, sizeof(renamed));
	absent = no_templates = learning = repeating = pin_locked = keeping_random = 0;
	wrong = pin_limit = no_create = 0;
	tallies[T_pin_tries].calls = 0;
}

static void rename_mechanism(ulong_t from, ulong_t to)
{
	for (int i = 0; i < MECHANISMS; i++)
		if (!renamed[i].set) {
			renamed[i].set = 1, renamed[i].from = from, renamed[i].to = to;
			return;
		}
}

static struct fault *named(const char *name)
{
	for (int i = 0; i < FUNCTIONS; i++)
		if (strcmp(names[i], name) == 0)
			return &faults[i];
	return NULL;
}

/* on_function obeys a command about one function. */
static int on_function(const char *word, const char *name, long x, long y)
{
	struct fault *f = named(name);

	if (strcmp(word, "clear") == 0 && strcmp(name, "*") == 0)
		return clear_all(), 1;
	if (f == NULL)
		return 0;
	if (strcmp(word, "fail") == 0)
		f->code = (ulong_t)x, f->fails = y, f->pause = 0;
	else if (strcmp(word, "twice") == 0)
		f->code = (ulong_t)x, f->fails = 2, f->pause = 1;
	else if (strcmp(word, "after") == 0)
		f->after = (ulong_t)x, f->afters = y;
	else if (strcmp(word, "hang") == 0)
		f->hangs = x;
	else if (strcmp(word, "spare") == 0)
		f->spared = x;
	else if (strcmp(word, "slow") == 0)
		f->slow = x;
	else if (strcmp(word, "clear") == 0)
		clear(f);
	else
		return 0;
	return 1;
}

/* on_token obeys a command about the whole token. */
static int on_token(const char *word, long x, long y)
{
	if (strcmp(word, "losesessions") == 0)
		each_slot(close_sessions);
	else if (strcmp(word, "logout") == 0)
		each_slot(log_out);
	else if (strcmp(word, "vanish") == 0)
		each_slot(close_sessions), absent = 1;
	else if (strcmp(word, "return") == 0)
		absent = 0, offset = (ulong_t)x;
	else if (strcmp(word, "keeprandom") == 0)
		keeping_random = x != 0;
	else if (strcmp(word, "locks") == 0)
		pin_limit = x;
	else if (strcmp(word, "locked") == 0)
		pin_locked = x != 0;
	else if (strcmp(word, "hide") == 0)
		rename_mechanism((ulong_t)x, 0);
	else if (strcmp(word, "rename") == 0)
		rename_mechanism((ulong_t)x, (ulong_t)y);
	else if (strcmp(word, "notemplates") == 0)
		no_templates = x != 0;
	else if (strcmp(word, "nocreate") == 0)
		no_create = (ulong_t)x;
	else if (strcmp(word, "wrong") == 0)
		wrong = x;
	else if (strcmp(word, "learn") == 0)
		learning = x != 0;
	else if (strcmp(word, "nonce") == 0)
		repeating = x != 0;
	else if (strcmp(word, "measure") == 0)
		measure();
	else if (strcmp(word, "memory") == 0)
		account_memory();
	else
		return 0;
	return 1;
}

static int takes_away(const char *word)
{
	return strcmp(word, "losesessions") == 0 || strcmp(word, "logout") == 0 || strcmp(word, "vanish") == 0 ||
	       strcmp(word, "measure") == 0;
}

static void obey(char *line)
{
	char word[32] = "", name[64] = "";
	long x = 0, y = 0;
	int ok, alone = sscanf(line, "%31s", word) == 1 && takes_away(word);

	if (alone)
		pthread_rwlock_wrlock(&inside);
	pthread_mutex_lock(&mutex);
	if (sscanf(line, "try %15s %255s", attempt_what, attempt_path) == 2) {
		tallies[T_tried].calls = attempt();
		tallies[T_tried_call].calls = 0;
		ok = attempt_waits = 1;
	} else if (sscanf(line, "%31s %63s %ld %ld", word, name, &x, &y) >= 2 && (name[0] == 'C' || name[0] == '*'))
		ok = on_function(word, name, x, y);
	else
		ok = sscanf(line, "%31s %ld %ld", word, &x, &y) >= 1 && on_token(word, x, y);
	pthread_mutex_unlock(&mutex);
	if (alone)
		pthread_rwlock_unlock(&inside);
	fprintf(answers, "%s\n", ok ? "ok" : "unknown");
	fflush(answers);
}

/* obey_until reads commands up to the line end, or for ever. */
static int obey_until(const char *end)
{
	char line[512];

	while (fgets(line, sizeof(line), commands) != NULL) {
		if (end != NULL && strcmp(line, end) == 0) {
			fprintf(answers, "ok\n");
			fflush(answers);
			return 1;
		}
		obey(line);
	}
	return 0;
}

static void *listen_on(void *unused)
{
	(void)unused;
	obey_until(NULL);
	return NULL;
}

static int connect_control(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("SIGILD_TEST_FAULTS");
	pthread_t thread;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (path == NULL || fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return 0;
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return 0;
	commands = fdopen(fd, "r");
	answers = fdopen(dup(fd), "w");
	if (commands == NULL || answers == NULL)
		return 0;
	return obey_until("go\n") && pthread_create(&thread, NULL, listen_on, NULL) == 0;
}

static int open_tallies(void)
{
	const char *socket_path = getenv("SIGILD_TEST_FAULTS");
	size_t size = TALLIES * sizeof(*tallies);
	char path[256];
	int fd;

	if (socket_path == NULL || snprintf(path, sizeof(path), "%s.calls", socket_path) >= (int)sizeof(path))
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
		return 0;
	tallies = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (tallies == MAP_FAILED)
		return 0;
	for (int i = 0; i < FUNCTIONS; i++)
		strcpy(tallies[i].name, names[i]);
	strcpy(tallies[T_sessions].name, "sessions");
	strcpy(tallies[T_objects].name, "objects");
	strcpy(tallies[T_tried].name, "tried");
	strcpy(tallies[T_tried_call].name, "tried.call");
	strcpy(tallies[T_allocated].name, "allocated");
	strcpy(tallies[T_held].name, "held");
	strcpy(tallies[T_pin_tries].name, "pin.tries");
	return 1;
}

#define INSTALL(NAME) mine.f[F_##NAME] = wrapped_##NAME;

static int set_up(void)
{
	const char *path = getenv("SIGILD_TEST_MODULE");
	ulong_t (*get)(struct list **) = NULL;
	void *handle;

	if (path == NULL || (handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) == NULL)
		return 0;
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
	if (get == NULL || get(&real) != CKR_OK)
		return 0;
	mine = *real;
	EACH(INSTALL)
	return open_tallies() && connect_control();
}

ulong_t C_GetFunctionList(struct list **out)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	static int ready;

	pthread_mutex_lock(&once);
	if (!ready)
		ready = set_up();
	pthread_mutex_unlock(&once);
	if (!ready)
		return CKR_GENERAL_ERROR;
	*out = &mine;
	return CKR_OK;
}
