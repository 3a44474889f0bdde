//! Shell scripts and the tools that they start: what they print is what they print natively.
//!
//! Each script works in a directory of its own, which it makes and removes: inside, nothing of that
//! reaches the host.

mod common;

use std::path::Path;

use common::{Guest, fresh, installed};

/// A script, with a directory `work` that is empty when it starts.
fn script(body: &str) -> String {
    format!("rm -rf work && mkdir work && cd work || exit 99\n{body}\ncd .. && rm -rf work\n")
}

/// Runs a script natively and inside, by one shell.
#[track_caller]
fn same(shell: &[&str], body: &str) {
    same_in(&fresh("scripts"), shell, body);
}

#[track_caller]
fn same_in(directory: &Path, shell: &[&str], body: &str) {
    let Some(program) = installed(shell[0]) else { return };
    std::fs::create_dir_all(directory).expect("the scratch directory is writable");
    let text = script(body);
    let mut command = vec![program];
    command.extend(&shell[1..]);
    command.extend(["-c", &text]);
    Guest::new(command).directory(directory).same();
    // It stays behind only if the test fails.
    let _ = std::fs::remove_dir_all(directory);
}

const SHELLS: [&[&str]; 3] = [&["/bin/dash"], &["/bin/bash"], &["/bin/busybox", "sh"]];

/// What every shell can: pipes, subshells, here-documents, traps, background jobs, functions.
const PORTABLE: &str = r#"
printf '%s\n' pear apple fig | sort | tr a-z A-Z | while read -r one; do echo "<$one>"; done
(exit 7); echo "subshell $?"
cat <<END | wc -l
one $((6 * 7))
two
END
count() { n=0; while [ $n -lt "$1" ]; do n=$((n + 1)); done; echo "counted $n"; }
count 50
trap 'echo "exit trap"' EXIT
trap 'echo "usr1"' USR1
kill -USR1 $$
(sleep 0.05; exit 3) & wait $!; echo "waited $?"
{ sleep 10 & sleeper=$!; kill $sleeper; wait $sleeper; echo "killed $?"; } 2>/dev/null
for i in 1 2 3; do echo "line $i"; done > file
while read -r a b; do echo "$b-$a"; done < file
echo "$(echo inner | sed s/inner/outer/) and `echo back`"
false || echo or; true && echo and
yes | head -n 2
echo to stderr >&2
set -e
test -s file && ls
"#;

#[test]
fn shells_with_pipes_jobs_and_traps() {
    for shell in SHELLS {
        same(shell, PORTABLE);
    }
}

#[test]
fn bash_with_all_it_has() {
    let body = r#"
diff <(printf 'a\nb\n') <(printf 'a\nc\n'); echo "diff $?"
declare -A map=([x]=1 [y]=2); for key in x y; do echo "$key=${map[$key]}"; done
coproc CAT { cat; }; echo through >&"${CAT[1]}"; read -r back <&"${CAT[0]}"; echo "$back"
exec {CAT[1]}>&-
mapfile -t lines < <(seq 3); echo "${#lines[@]} ${lines[*]}"
set -m
sleep 0.05 & jobs -r | wc -l; wait; echo "all done"
{ sleep 5 & p=$!; kill -STOP $p; sleep 0.01; jobs -s | wc -l; kill -CONT $p; kill $p
wait $p; } 2>/dev/null
echo "job $?"
printf '%s\n' {1..5} | xargs -n 2 echo
umask; echo $BASHPID | grep -c .
time -p true 2>/dev/null
echo $((16#ff)) ${RANDOM:+random}
"#;
    same(&["/bin/bash"], body);
}

#[test]
fn archives_through_pipes() {
    let body = r#"
mkdir d; for i in $(seq 60); do seq $i $((i * 7)) > d/f$i; done
tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - d | gzip -9n > d.tgz
gzip -dc d.tgz | tar -tf - | wc -l
mkdir out; tar -xzf d.tgz -C out; diff -r d out/d && echo same
cksum < d.tgz
"#;
    same(&["/bin/sh"], body);
}

#[test]
fn many_short_processes() {
    let body = r#"
find /usr/lib -name 'lib*.so*' 2>/dev/null | sort | head -n 300 | xargs -n 5 ls -d | cksum
find /usr/share/doc -name 'c*' -prune -exec basename {} \; | sort | head -n 80 | cksum
"#;
    same(&["/bin/sh"], body);
}

#[test]
fn perl_forks_and_executes() {
    let body = r#"perl -e '
        $| = 1;
        for my $i (1 .. 5) {
            my $pid = fork(); exit($i) if !$pid; waitpid($pid, 0); print $? >> 8, "\n";
        }
        print `echo from a child`;
        open(my $pipe, "-|", "seq", "3") or die; print while <$pipe>; close $pipe;
        pipe(my $r, my $w); if (!fork()) { close $r; print $w "x" x 100000; exit 0 }
        close $w; local $/; my $all = <$r>; wait(); print length($all), "\n";
        exec("sh", "-c", "echo at last; exit 5");'; echo $?
"#;
    same(&["/bin/sh"], body);
}

/// A repository from its first commit on; names and times are fixed.
#[test]
fn git_keeps_a_repository() {
    if installed("/usr/bin/git").is_none() {
        return;
    }
    let body = r#"
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 PATH=/usr/bin:/bin
export GIT_AUTHOR_DATE=2024-01-01T00:00:00Z GIT_COMMITTER_DATE=2024-01-01T00:00:00Z
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main r && cd r
mkdir d; seq 200 > f; echo x > d/y; git add . && git commit -q -m first
echo more >> f; git mv d/y d/z; git commit -qam second
git log --stat --format='%H %s' | cat
git diff HEAD~1 | cat
git branch side HEAD~1; git checkout -q side; echo side > s; git add s; git commit -qm third
git merge -q --no-edit main 2>&1 | cat; git log --oneline --graph | cat
git status -s; git fsck --no-progress; git gc -q; git count-objects -v | grep in-pack; cd ..
"#;
    same(&["/bin/sh"], body);
}

/// A program of ten files, built by the host's compiler and linker inside, then run there.
#[test]
fn make_builds_with_the_whole_tool_chain() {
    if installed("/usr/bin/make").is_none() || installed("/usr/bin/gcc").is_none() {
        return;
    }
    let body = r#"
{ echo 'OBJECTS = main.o'; for i in 0 1 2 3 4 5 6 7 8; do echo "OBJECTS += f$i.o"; done
  printf 'prog: $(OBJECTS)\n\tgcc -o $@ $(OBJECTS)\n'
  printf '%%.o: %%.c\n\tgcc -O2 -c -o $@ $<\n'; } > Makefile
echo '#include <stdio.h>' > main.c; sum=0
for i in 0 1 2 3 4 5 6 7 8; do
    printf '#include <string.h>\nint f%d(int x) { char s[40]; memset(s, x, 40);\n' $i > f$i.c
    printf 'int n = 0; for (int i = 0; i < 40; i++) n += s[i] * %d; return n; }\n' $i >> f$i.c
    echo "int f$i(int);" >> main.c; sum="$sum + f$i($i)"
done
echo "int main(void) { printf(\"%d\\n\", $sum); return 0; }" >> main.c
make -s -j2 && ./prog && readelf -h prog | grep Entry | wc -l && objdump -d prog | grep -c '<main>:'
touch f3.c && make -s && ./prog; make -q; echo "up to date $?"
"#;
    same(&["/bin/sh"], body);
}
