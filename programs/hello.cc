// The C++ library's start-up: locale, iostreams, exceptions.
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

int main()
{
	std::vector<std::string> words{"hello", "from", "C++"};
	for (const auto &word : words)
		std::cout << word << ' ';
	try {
		words.at(7);
	} catch (const std::out_of_range &) {
		std::cout << "caught" << std::endl;
	}
	return 3;
}
