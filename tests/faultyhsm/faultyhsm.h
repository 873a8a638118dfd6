#pragma once

/*
 * The C interface of the faulty driver, beside its C_GetFunctionList. A test finds these functions with dlsym() in the
 * library that it lets its host load: dlopen(path, RTLD_NOW | RTLD_NOLOAD) gives the handle of the same copy. README.md
 * has the directives.
 *
 * Names of functions are those of PKCS#11, such as "C_Encrypt". Thread safety: all functions may run concurrently with
 * each other and with the driver's.
 */

#define FAULTYHSM_API __attribute__((visibility("default")))

#define FAULTYHSM_OK 0
#define FAULTYHSM_UNKNOWN_DIRECTIVE 1
#define FAULTYHSM_BAD_ARGUMENT 2
#define FAULTYHSM_NO_SUCH_NAME (~0UL)

#ifdef __cplusplus
extern "C" {
#endif

/* Follows one directive, as in a line of a script. A fault that never comes would let its test pass: look at this. */
FAULTYHSM_API int faultyhsm_apply(const char* directive);

/* Calls of one function since the last reset, forwarded or not. */
FAULTYHSM_API unsigned long faultyhsm_calls(const char* c_function_name);

/* How often a fault acted since the last reset, by its directive ("gcm_iv") or by its number ("F7"). */
FAULTYHSM_API unsigned long faultyhsm_fired(const char* name);

/* The session of the last call of a function; 0 if it was never called in one. Not reset. */
FAULTYHSM_API unsigned long faultyhsm_last_session(const char* c_function_name);

/*
 * What was seen since the last reset:
 *   calls                   of all functions, forwarded or not
 *   length_queries          calls of C_Encrypt, C_Decrypt and C_Sign without an output buffer
 *   other_ciphers           calls of C_EncryptInit and C_DecryptInit with another mechanism than CKM_AES_GCM
 *   threads_in_one_session  calls for a session that another thread was in
 *   threads_at_once         calls beside another one, though the driver was started without CKF_OS_LOCKING_OK or is
 *                           not_thread_safe
 *   stale_handles           calls that named a session or an object which is not (or no longer) what it was handed out
 *                           for; for a session that died, from the second one
 *   stale_again             of these, those that named one which the host had ended itself, or had been told in the
 *                           same session to be gone; a session that failed as the device did may be closed once
 *   wrong_pins              calls of C_Login with a PIN that is not the token's
 *   starts                  calls of C_Initialize that started the driver
 *   open_sessions_at_most   the most that were open at a time
 *   child_calls, child_finalized, child_closed
 *                           in processes that were forked: calls, those of C_Finalize, and closed sessions that were
 *                           inherited
 * and two that no reset changes:
 *   open_sessions           that are open now
 *   inside                  calls that are being made now
 */
FAULTYHSM_API unsigned long faultyhsm_counter(const char* name);

/* Sets all that is counted to zero. Faults stay as they are; the directive "clear" ends them. */
FAULTYHSM_API void faultyhsm_reset(void);

#ifdef __cplusplus
}
#endif
