# How Doxygen reads a header: its macros want words too, the contract's labels become headings, and members that are alike
# everywhere get the words that nobody wants to write thirty times. No line is added, so that warnings name the right one.
s,^#pragma once$,/** @file */ #pragma once,
s,^( *///) (Lifetime|Thread safety|Blocking|Conformance): ,\1 @contract{\2} ,
s,^( *(explicit )?[A-Za-z]*Error\(.*const std::string& message\);)$,\1  ///< `message` is what what() returns.,
s,(operator(==|<=>)\(.*\) const = default;)$,\1  ///< Compares member by member.,
