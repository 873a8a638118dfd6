// drivers and tokens: what is on this machine, without a host file.

#include <memory>
#include <optional>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_module.hpp>

#include "command.hpp"
#include "failure.hpp"
#include "words.hpp"

namespace tool {
namespace {

std::string evidence_of(const hsmseal::Vendor& vendor) {
  return vendor.ran.empty() ? std::string{word(vendor.evidence)}
                            : fmt::format("{}: {}", word(vendor.evidence), vendor.ran);
}

std::optional<std::filesystem::path> found(const hsmseal::Vendor& vendor) {
  try {
    return hsmseal::Host{}.driver_for({.driver = std::string{vendor.alias}}).library;
  } catch (const hsmseal::InvalidArgumentError&) {
    return std::nullopt;  // which is what the list says
  }
}

Exit list_drivers(const Tool& tool) {
  const Output out = tool.output();
  Json document = {{"drivers", Json::array()}};
  for (const hsmseal::Vendor& vendor : hsmseal::vendors()) {
    const auto library = found(vendor);
    out.line("{}: {} ({}; {})", vendor.alias, library ? library->string() : "not found", vendor.name,
             evidence_of(vendor));
    Json one = {{"alias", vendor.alias},
                {"name", vendor.name},
                {"library", library ? Json(library->string()) : Json()},
                {"evidence", evidence_of(vendor)}};
    if (!vendor.note.empty()) one["note"] = vendor.note;
    if (vendor.start_up) one["start_up"] = vendor.start_up->value;
    if (vendor.environment) one["environment"] = vendor.environment->value;
    document["drivers"].push_back(std::move(one));
  }
  out.document(document);
  return Exit::Success;
}

Exit list_tokens(const Tool& tool, const std::string& driver) {
  const auto module = hsmseal::Pkcs11Module::load(hsmseal::Host{}.driver_for({.driver = driver}));
  const auto info = module->info();
  const Output out = tool.output();
  out.line("driver: {} {}.{}, Cryptoki {}.{}", info.description, info.library_major, info.library_minor,
           info.cryptoki_major, info.cryptoki_minor);
  Json document = {{"driver",
                    {{"description", info.description},
                     {"manufacturer", info.manufacturer},
                     {"library", fmt::format("{}.{}", info.library_major, info.library_minor)},
                     {"cryptoki", fmt::format("{}.{}", info.cryptoki_major, info.cryptoki_minor)}}},
                   {"tokens", Json::array()},
                   {"blank", Json::array()}};
  const auto tokens = module->tokens(), blank = module->blank_tokens();
  if (tokens.empty() && blank.empty()) {
    throw Failure(Exit::Unavailable, "the driver shows no token; connect one, or check the driver's configuration");
  }
  for (const auto& token : tokens) {
    out.line("token: '{}', serial {}, model {}, of {}", token.label, token.serial, token.model, token.manufacturer);
    document["tokens"].push_back({{"label", token.label},
                                  {"serial", token.serial},
                                  {"model", token.model},
                                  {"manufacturer", token.manufacturer}});
  }
  for (const auto& token : blank) {
    out.line("blank: slot {}, model {}, of {}; the vendor's tool initializes it", token.slot, token.model,
             token.manufacturer);
    document["blank"].push_back({{"slot", token.slot}, {"model", token.model}, {"manufacturer", token.manufacturer}});
  }
  out.document(document);
  return Exit::Success;
}

}  // namespace

void add_driver_commands(Tool& tool) {
  auto* drivers = tool.command("drivers", "list the vendors' drivers, and where they are on this host",
                               [&tool] { return list_drivers(tool); });
  drivers->footer(
      "Run: hsmseal's tests ran against it. Documented: a source says how to reach it, and hsmseal was not run "
      "there.");

  const auto driver = std::make_shared<std::string>();
  auto* tokens = tool.command("tokens", "list the tokens that a driver shows",
                              [&tool, driver] { return list_tokens(tool, *driver); });
  tokens->add_option("DRIVER", *driver, "a vendor's alias, such as softhsm2, or the absolute path of a library")
      ->required();
}

}  // namespace tool
