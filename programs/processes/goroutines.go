// Goroutines: channels, select, mutexes, wait groups, the collector, timers, signals, a child.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// channels sends numbers through a pipeline of goroutines.
func channels() {
	numbers := make(chan int)
	squares := make(chan int, 8)
	go func() {
		defer close(numbers)
		for i := 0; i < 20000; i++ {
			numbers <- i
		}
	}()
	var workers sync.WaitGroup
	for i := 0; i < 8; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := range numbers {
				squares <- n * n % 1009
			}
		}()
	}
	go func() { workers.Wait(); close(squares) }()
	sum := 0
	for square := range squares {
		sum += square
	}
	fmt.Println("pipeline", sum)
}

// locks counts under a mutex, an atomic and a condition.
func locks() {
	var mutex sync.RWMutex
	var done sync.WaitGroup
	var total atomic.Int64
	words := map[int]int{}
	for i := 0; i < 64; i++ {
		done.Add(1)
		go func(i int) {
			defer done.Done()
			for j := 0; j < 200; j++ {
				mutex.Lock()
				words[j%16] += i
				mutex.Unlock()
				total.Add(int64(j))
				if j%50 == 0 {
					runtime.Gosched()
				}
			}
		}(i)
	}
	done.Wait()
	fmt.Println("locks", total.Load(), words)
	condition := sync.NewCond(&sync.Mutex{})
	ready := false
	go func() { condition.L.Lock(); ready = true; condition.L.Unlock(); condition.Broadcast() }()
	condition.L.Lock()
	for !ready {
		condition.Wait()
	}
	condition.L.Unlock()
	var once sync.Once
	for i := 0; i < 3; i++ {
		once.Do(func() { fmt.Println("once") })
	}
}

type tree struct{ left, right *tree }

func grow(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func (t *tree) count() int {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.count() + t.right.count()
}

// garbage makes the collector run while goroutines allocate.
func garbage() {
	debug.SetGCPercent(20)
	kept := grow(14)
	var done sync.WaitGroup
	counts := make([]int, 4)
	for i := range counts {
		done.Add(1)
		go func(i int) {
			defer done.Done()
			for j := 0; j < 20; j++ {
				counts[i] += grow(9).count()
			}
		}(i)
	}
	done.Wait()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("garbage", counts, kept.count(), stats.NumGC > 1, stats.HeapAlloc < 64<<20)
	debug.FreeOSMemory()
}

// spinning is stopped by a signal of the runtime: it never calls anything.
func spinning() {
	var stop int32
	var turns uint64
	go func() {
		for atomic.LoadInt32(&stop) == 0 {
			turns++
		}
	}()
	time.Sleep(20 * time.Millisecond)
	runtime.GC()
	atomic.StoreInt32(&stop, 1)
	fmt.Println("spinning ended")
}

// times waits with timers, tickers, deadlines and select.
func times() {
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	late := time.After(15 * time.Millisecond)
	count := 0
	for waiting := true; waiting; {
		select {
		case <-ticks.C:
			count++
		case <-late:
			waiting = false
		}
	}
	fmt.Println("ticks", count > 0)
	limit, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
	defer cancel()
	<-limit.Done()
	fmt.Println(limit.Err(), errors.Is(limit.Err(), context.DeadlineExceeded))
}

// signals catches one of its own and turns a fault into a panic.
func signals() {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGUSR1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		fmt.Println(err)
	}
	fmt.Println("heard", <-heard)
	defer func() { fmt.Println("recovered:", recover()) }()
	var nowhere *tree
	fmt.Println(nowhere.left)
}

// child talks to another program through pipes.
func child() {
	command := exec.Command("/usr/bin/tr", "a-z", "A-Z")
	command.Stdin = strings.NewReader("through two pipes\n")
	var said bytes.Buffer
	command.Stdout = &said
	err := command.Run()
	fmt.Printf("%v %q\n", err, said.String())
	err = exec.Command("/bin/sh", "-c", "exit 3").Run()
	var ended *exec.ExitError
	fmt.Println(errors.As(err, &ended), err)
	reader, writer, _ := os.Pipe()
	go func() { fmt.Fprint(writer, "a pipe of its own"); writer.Close() }()
	var text bytes.Buffer
	text.ReadFrom(reader)
	fmt.Println(text.String())
}

func main() {
	channels()
	locks()
	garbage()
	spinning()
	times()
	signals()
	child()
	words := strings.Fields("the quick brown fox jumps over the lazy dog")
	sort.Strings(words)
	fmt.Printf("%x %v\n", sha256.Sum256([]byte(strings.Join(words, " "))), words)
	fmt.Println("processors", runtime.GOMAXPROCS(0) > 0)
}
