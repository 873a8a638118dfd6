#include "cli/faulty_scene.hpp"

#include <fmt/format.h>

namespace hsmseal::test {

FaultyScene::FaultyScene(const std::vector<std::string>& good)
    : hsm_([&] {
        auto labels = good;
        labels.push_back("bad");
        return labels;
      }()) {
  for (const std::string& label : hsm_.tokens().labels()) {
    scene_.write(label + ".pin", hsm_.tokens().pin(label) + "\n");
    scene_.keep_secret(hsm_.tokens().pin(label));
  }
  const DriverOptions driver = hsm_.driver();
  std::string environment = fmt::format(R"("FAULTYHSM_SCRIPT": "{}")", (scene_.folder() / "faults").string());
  for (const auto& [name, value] : driver.environment) environment += fmt::format(R"(, "{}": "{}")", name, value);
  std::string tokens = fmt::format(
      R"("bad": {{"driver": "{}", "environment": {{{}}}, "select": {{"label": "bad"}}, "pin": {{"file": "bad.pin"}}}})",
      driver.library.string(), environment);
  for (const std::string& label : good) {
    tokens += fmt::format(
        R"(, "{0}": {{"driver": "softhsm2", "select": {{"label": "{0}"}}, "pin": {{"file": "{0}.pin"}}}})", label);
  }
  scene_.write("hsmseal.json", fmt::format("{{\"tokens\": {{{}}},\n \"store\": \"sqlite:ring.db\", "
                                           "\"ring_pin\": \"ring.pin\"}}\n",
                                           tokens));
  scene_.replace(driver.library.parent_path().string(), "<libraries>");
  scene_.replace(hsm_.tokens().directory().string(), "<tokens>");
}

Ran FaultyScene::with(const std::string& faults, const std::string& command) {
  scene_.write("faults", faults + "\n");
  std::string remark = faults;
  for (auto at = remark.find('\n'); at != std::string::npos; at = remark.find('\n')) remark.replace(at, 1, ", ");
  return scene_.run(command + "  # " + remark);
}

}  // namespace hsmseal::test
