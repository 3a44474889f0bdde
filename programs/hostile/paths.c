/* Path names: too long, empty, looping, through files. */
#include "hostile.h"
#include <sys/stat.h>

static void probe(const char *name, const char *path)
{
	int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK);

	CALL(name, fd < 0 ? -1 : 0);
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	static char longest[8192], component[400], slashes[4200];

	memset(longest, 'a', sizeof longest - 1);
	for (size_t i = 0; i < sizeof longest - 1; i += 100)
		longest[i] = '/';
	memset(component, 'b', 300);
	memset(slashes, '/', 4000);
	probe("empty", "");
	probe("root", "/");
	probe("above root", "/../../../..");
	probe("slashes", "//////");
	probe("4000 slashes", slashes);
	probe("8191 bytes", longest);
	longest[4096] = 0;
	probe("4096 bytes", longest);
	longest[4095] = 0;
	probe("4095 bytes", longest);
	probe("component of 300", component);
	probe("through a file", "/etc/passwd/x");
	probe("file with slash", "/etc/passwd/");
	probe("dots through a file", "/etc/passwd/../passwd");
	probe("missing", "/nonexistent/x");
	probe("newline", "/tmp/a\nb");
	probe("escape", "/tmp/\033[31m");
	probe("not UTF-8", "/tmp/\xff\xfe");
	CALL("directory for writing", open("/", O_RDWR));
	CALL("directory flag on file", open("/etc/passwd", O_RDONLY | O_DIRECTORY));
	CALL("no-follow of a link", open("/proc/self/exe", O_RDONLY | O_NOFOLLOW));
	CALL("create over", open("/etc/passwd", O_RDONLY | O_CREAT | O_EXCL, 0600));
	CALL("openat closed", openat(999, "x", O_RDONLY));
	CALL("openat a file", openat(open("/etc/passwd", O_RDONLY), "x", O_RDONLY));
	CALL("mkdir root", mkdir("/", 0700));
	CALL("unlink root", unlink("/"));
	CALL("readlink not a link", readlink("/etc/passwd", slashes, 10));
	CALL("readlink size 0", readlink("/proc/self/exe", slashes, 0));
	return 0;
}
