#pragma once

#include <memory>
#include <optional>

#include <hsmseal/pkcs11_session.hpp>
#include <hsmseal/probe.hpp>

#include "findings.hpp"
#include "host_file.hpp"
#include "patience.hpp"

namespace tool {

/// Loads a token's driver.
/// @returns null if it does not run; why not is among the findings then.
/// @throws HangError
[[nodiscard]] std::shared_ptr<hsmseal::Pkcs11Module> diagnose_driver(const HostFile& host, const HostToken& token,
                                                                     const Patience& patience, Findings& findings);

/// Finds the token and logs in, with one C_Login at most.
/// @returns a session that keeps the login; nothing if that does not work.
/// @throws HangError
[[nodiscard]] std::optional<hsmseal::Pkcs11Session> diagnose_token(const std::shared_ptr<hsmseal::Pkcs11Module>& module,
                                                                   const HostToken& token, const Patience& patience,
                                                                   Findings& findings);

/// What probe_token() shows. Closes the session, which is destroyed where it may hang.
/// @throws HangError, and what probe_token() throws.
[[nodiscard]] hsmseal::ProbeReport probe(const HostFile& host, const HostToken& token, hsmseal::Pkcs11Session session,
                                         const hsmseal::ProbeOptions& options, const Patience& patience);

/// What a probe showed, in a few findings.
void diagnose_probe(const hsmseal::ProbeReport& report, const HostToken& token, Findings& findings);

/// The ring of this host: its store, its pin, its sets' keys, its audit log.
void diagnose_ring(const HostFile& host, Findings& findings);

/// How findings call a token.
[[nodiscard]] inline std::string name_of(const HostToken& token) { return fmt::format("token '{}'", token.alias); }

}  // namespace tool
