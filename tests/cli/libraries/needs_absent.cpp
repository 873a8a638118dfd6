// A driver that needs another library.
extern "C" int absent();
extern "C" int needs_absent() { return absent(); }
