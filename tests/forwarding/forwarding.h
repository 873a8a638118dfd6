#pragma once

/*
 * The C interface of the forwarding driver, beside its C_GetFunctionList. A test finds these functions with dlsym() in
 * the library that it lets hsmseal load: dlopen(path, RTLD_NOW | RTLD_NOLOAD) gives the handle of the same copy.
 *
 * Names are those of the C functions, such as "C_Encrypt". Thread safety: all functions may run concurrently with each
 * other and with the driver's.
 */

#define FORWARDING_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Calls of one function since the last reset, forwarded or not; (unsigned long)-1 for a name that is no function. */
FORWARDING_API unsigned long forwarding_calls(const char* c_function_name);

/* Calls of all functions since the last reset, forwarded or not. */
FORWARDING_API unsigned long forwarding_calls_total(void);

/* Calls of C_Encrypt, C_Decrypt and C_Sign without an output buffer since the last reset. */
FORWARDING_API unsigned long forwarding_length_queries(void);

/* How often since the last reset a call was made for a session that another thread was in. */
FORWARDING_API unsigned long forwarding_threads_in_one_session(void);

/* Sessions that were opened and neither closed nor ended by C_CloseAllSessions or C_Finalize. Not reset. */
FORWARDING_API unsigned long forwarding_open_sessions(void);

/* Sets every count to zero. Pending failures and the limit of sessions stay as they are. */
FORWARDING_API void forwarding_reset(void);

/*
 * The next `count` calls of a function return `rv` and are not forwarded; a count of 0 takes back what is pending.
 * Aborts the process for a name that is no function: a fault that never comes would let its test pass.
 */
FORWARDING_API void forwarding_fail_next(const char* c_function_name, unsigned long rv, unsigned long count);

/* C_OpenSession returns CKR_SESSION_COUNT while this many sessions are open; 0 takes the limit away. */
FORWARDING_API void forwarding_limit_sessions(unsigned long most);

/* C_FindObjects hands out at most this many handles at a time; 0 takes the limit away. */
FORWARDING_API void forwarding_limit_found(unsigned long most);

/* The session of the last call of a function; 0 if it was never called in one. Not reset. */
FORWARDING_API unsigned long forwarding_last_session(const char* c_function_name);

/* While `on` is not 0, CKM_AES_GCM encrypts under another IV than the caller's, who is not told. */
FORWARDING_API void forwarding_change_ivs(unsigned long on);

/* The tokens with these two labels show each other's label from now on; a null pointer ends that. */
FORWARDING_API void forwarding_swap_labels(const char* one, const char* other);

#ifdef __cplusplus
}
#endif
