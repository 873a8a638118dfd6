#include <hsmseal/context.hpp>

#include <string>
#include <utility>

#include <hsmseal/error.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::hex;

namespace {

/// len64(text) || text in hexadecimal, written by other means than the library's.
std::string sized(const std::string& text) {
  std::string result(14, '0');
  result += hex(Bytes{static_cast<std::byte>(text.size())});
  return result + hex(bytes_of(text));
}

}  // namespace

TEST_CASE("a context is its pairs, each name and value after its length") {
  Context context;
  context.add("record", "42");
  CHECK(hex(context.encoded()) == "00000000000000067265636f726400000000000000023432");
  context.add("tenant", "acme");
  CHECK(hex(context.encoded()) == sized("record") + sized("42") + sized("tenant") + sized("acme"));
}

TEST_CASE("a context is the same in whatever order its pairs were added") {
  const Context one = Context{}.add("a", "1").add("b", "2").add("c", "3");
  const Context other = Context{}.add("c", "3").add("a", "1").add("b", "2");
  CHECK(one.encoded() == other.encoded());
  CHECK(hex(one.encoded()) == sized("a") + sized("1") + sized("b") + sized("2") + sized("c") + sized("3"));
}

TEST_CASE("names are sorted by their bytes, a shorter one before those that it begins") {
  const Context context = Context{}.add("\xc3\xa9", "3").add("ab", "2").add("a", "1").add("Z", "0");
  CHECK(hex(context.encoded()) ==
        sized("Z") + sized("0") + sized("a") + sized("1") + sized("ab") + sized("2") + sized("\xc3\xa9") + sized("3"));
}

TEST_CASE("contexts with other pairs are never the same bytes") {
  const auto encoded = [](std::string_view name, std::string_view value) {
    return Context{}.add(name, value).encoded();
  };
  CHECK(encoded("ab", "c") != encoded("a", "bc"));
  CHECK(encoded("a", "") != encoded("a", std::string_view("\0", 1)));
  CHECK(encoded("a", "b") != encoded("A", "b"));
  CHECK(encoded("a", "b") != encoded("b", "a"));
  CHECK(encoded("a", "b") != Context{}.add("a", "b").add("c", "").encoded());
  const Bytes one_pair = encoded("a", "b");
  const std::string whole{reinterpret_cast<const char*>(one_pair.data()), one_pair.size()};
  CHECK(encoded("a", whole) != Context{}.add("a", "b").add("b", "a").encoded());
}

TEST_CASE("a context may hold any bytes and empty values") {
  const std::string zero("a\0b", 3);
  const Context context = Context{}.add(zero, "").add("\xff", zero);
  CHECK(hex(context.encoded()) == sized(zero) + sized("") + sized("\xff") + sized(zero));
}

TEST_CASE("a name that is empty or was added before is refused, and the context stays as it was") {
  Context context;
  context.add("record", "42");
  const Bytes before = context.encoded();
  CHECK_THROWS_AS(context.add("", "x"), InvalidArgumentError);
  CHECK_THROWS_AS(context.add("record", "43"), InvalidArgumentError);
  CHECK_THROWS_AS(context.add("record", "42"), InvalidArgumentError);
  CHECK(context.encoded() == before);
  context.add("Record", "42");
  CHECK(context.encoded() != before);
}

TEST_CASE("a context of no pairs is refused, and no context has to be said") {
  const Context nothing;
  CHECK(nothing.encoded().empty());
  CHECK(test::contains(test::message_of<InvalidArgumentError>([&] { (void)ContextView{nothing}; }), "kNoContext"));
  CHECK(ContextView{kNoContext}.bytes().empty());
}

TEST_CASE("a view refers to its context") {
  const Context context = Context{}.add("record", "42");
  const ContextView view{context};
  CHECK(view.bytes().data() == context.encoded().data());
  CHECK(view.bytes().size() == context.encoded().size());
}

TEST_CASE("bytes that the application encodes itself are 1 byte to 16 MiB") {
  const Bytes bytes((std::size_t{16} << 20) + 1);
  const ByteView all{bytes};
  CHECK(ContextView::raw(all.first(1)).bytes().size() == 1);
  CHECK(ContextView::raw(all.first(bytes.size() - 1)).bytes().data() == bytes.data());
  CHECK_THROWS_AS(ContextView::raw({}), InvalidArgumentError);
  CHECK_THROWS_AS(ContextView::raw(all), InvalidArgumentError);
}

TEST_CASE("a context longer than 16 MiB is refused when it is used") {
  Context context;
  context.add("a", std::string(std::size_t{16} << 20, 'x'));
  CHECK_THROWS_AS(ContextView{context}, InvalidArgumentError);
}
