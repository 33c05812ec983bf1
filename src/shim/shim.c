/*
 * What the container runtime starts as `kuma-cni`: hands the call and the pod's network namespace to
 * the node agent, and prints what comes back. A warm agent answers in a thirtieth of the time that
 * the full plugin needs to start.
 *
 * Whenever anything is not as it should be it executes the full plugin, with the same arguments,
 * environment and stdin: it can never be the reason that a pod fails.
 *
 * Freestanding C11: no libc, no allocation, no static data with addresses (nobody relocates it), no
 * parsing beyond two variables' names. `words.ts` has the words, `places.ts` the places.
 * Numbers of system calls: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
 */
typedef unsigned int u32;
typedef unsigned long word;

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, RT_SIGPROCMASK = 14, IOCTL = 16, SOCKET = 41, CONNECT = 42, SENDMSG = 46,
  RECVFROM = 45, GETSOCKOPT = 55, EXECVE = 59, FCNTL = 72, CLOCK_GETTIME = 228, EXIT_GROUP = 231,
  OPENAT = 257, PPOLL = 271, DUP3 = 292, PIPE2 = 293, MEMFD_CREATE = 319, LSEEK = 8 };
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, IOCTL = 29, RT_SIGPROCMASK = 135, SOCKET = 198, CONNECT = 203,
  SENDMSG = 211, RECVFROM = 207, GETSOCKOPT = 209, EXECVE = 221, FCNTL = 25, CLOCK_GETTIME = 113,
  EXIT_GROUP = 94, OPENAT = 56, PPOLL = 73, DUP3 = 24, PIPE2 = 59, MEMFD_CREATE = 279, LSEEK = 62 };
#else
#error "The shim exists for x86-64 and aarch64"
#endif

#define VERSION_OF_WORDS 1
#define ENVIRONMENT_LIMIT (256 * 1024)
#define INPUT_LIMIT (1024 * 1024)
#define OUTPUT_LIMIT (2 * 1024 * 1024)
#define FULL_INPUT_LIMIT (8 * 1024 * 1024) /* What the full plugin takes, see src/cni/stdin.ts. */
#define INPUT_MILLISECONDS 10000           /* As the full plugin waits for the end of its input. */
#define TAKING_MILLISECONDS 1000           /* An agent that works takes a call before it serves another. */
#define ANSWER_MILLISECONDS 3000

enum { REQUEST_HEAD = 20, ANSWER_HEAD = 24, POLLIN = 1, POLLOUT = 4, NONE = -1 };
/* The installer writes paths of the host into these places; each follows its 16 bytes of mark. */
static const char socket_place[16 + 108] __attribute__((used)) = "kuma-cni:socket";
static const char program_place[16 + 512] __attribute__((used)) = "kuma-cni:plugin";

static unsigned char request[REQUEST_HEAD + ENVIRONMENT_LIMIT + INPUT_LIMIT + 1];
static unsigned char answer[ANSWER_HEAD + OUTPUT_LIMIT + 1];

static long call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall" : "=a"(result)
    : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0)
    : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#endif
}

struct call {
  char **arguments;
  char **environment;
  word environment_length; /* Of what is sent of it. */
  const char *namespace_path;
  int reads_input, input_ended;
  int spare;         /* A memory file, made before a byte of stdin is taken. */
  word input_length; /* Bytes of stdin that were taken. */
};

/* The text in a place, by a way that the compiler cannot foresee: the installer fills it later. */
static const char *text_in(const char *place) {
  __asm__("" : "+r"(place));
  return place + 16;
}

static word length_of(const char *text) {
  word length = 0;
  while (text[length]) length++;
  return length;
}

/* Returns what follows `begin` in `text`, or nothing. */
static const char *after(const char *text, const char *begin) {
  while (*begin) if (*text++ != *begin++) return 0;
  return text;
}

static void put(unsigned char *at, u32 value) {
  for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (8 * i));
}

static u32 get(const unsigned char *at) {
  return at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24;
}

static long now(void) {
  long time[2] = { 0, 0 };
  call(CLOCK_GETTIME, 1, (long)time, 0, 0, 0, 0);
  return time[0] * 1000 + time[1] / 1000000;
}

/* Waits until a descriptor is ready; 0 when it is not before `deadline`. */
static int ready(int descriptor, short events, long deadline) {
  struct { int descriptor; short events, returned; } poll = { descriptor, events, 0 };
  long left = deadline - now();
  if (left < 0) left = 0;
  long time[2] = { left / 1000, left % 1000 * 1000000 };
  return call(PPOLL, (long)&poll, 1, (long)time, 0, 8, 0) == 1;
}

/* Writes all bytes; 0 when that fails. */
static int write_all(int descriptor, const unsigned char *bytes, word length) {
  for (word at = 0; at < length;) {
    long n = call(WRITE, descriptor, (long)(bytes + at), (long)(length - at), 0, 0, 0);
    if (n > 0) at += (word)n;
    else if (n != -4 /* EINTR */) return 0;
  }
  return 1;
}

static unsigned char *input(const struct call *it) {
  return request + REQUEST_HEAD + it->environment_length;
}

/* Puts back what was taken of stdin. What has not ended does not end for the full plugin, either. */
static void replay_input(struct call *it) {
  int ends[2];
  if (!it->input_length && !it->input_ended) return;
  if (it->input_ended || it->input_length > INPUT_LIMIT) {
    write_all(it->spare, input(it), it->input_length);
    long deadline = now() + INPUT_MILLISECONDS;
    for (word total = it->input_length; !it->input_ended && total <= FULL_INPUT_LIMIT;) {
      if (!ready(0, POLLIN, deadline)) break;
      long n = call(READ, 0, (long)answer, sizeof answer, 0, 0, 0);
      if (n <= 0 || !write_all(it->spare, answer, (word)n)) break;
      total += (word)n;
    }
    call(LSEEK, it->spare, 0, 0, 0, 0, 0);
    call(DUP3, it->spare, 0, 0, 0, 0, 0);
  } else if (call(PIPE2, (long)ends, 0, 0, 0, 0, 0) == 0) {
    call(FCNTL, ends[1], 4 /* F_SETFL */, 04000 /* O_NONBLOCK */, 0, 0, 0);
    call(FCNTL, ends[1], 1031 /* F_SETPIPE_SZ */, INPUT_LIMIT, 0, 0, 0);
    write_all(ends[1], input(it), it->input_length);
    call(DUP3, ends[0], 0, 0, 0, 0, 0);
  }
}

/* Executes the full plugin. Returns only when there is none. */
static void run_full_plugin(struct call *it) {
  static const char gone[] = "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"kuma-cni could not "
    "start its plugin\",\"details\":\"The shim found neither the node agent nor the program that "
    "it was made for; install-cni puts that back\"}\n";
  replay_input(it);
  call(EXECVE, (long)text_in(program_place), (long)it->arguments, (long)it->environment, 0, 0, 0);
  write_all(1, (const unsigned char *)gone, sizeof gone - 1);
}

/* Copies the CNI_* variables, each with its NUL; 0 when this is nothing for the agent. */
static int take_environment(struct call *it) {
  const char *command = 0;
  for (char **variable = it->environment; *variable; variable++) {
    if (!after(*variable, "CNI_")) continue;
    if (!command) command = after(*variable, "CNI_COMMAND=");
    if (!it->namespace_path) it->namespace_path = after(*variable, "CNI_NETNS=");
    word length = length_of(*variable) + 1;
    if (it->environment_length + length > ENVIRONMENT_LIMIT) return 0;
    for (word i = 0; i < length; i++) input(it)[i] = (unsigned char)(*variable)[i];
    it->environment_length += length;
  }
  if (!command || !*command) return 0;
  /* A person who asks for the versions need not close stdin first. */
  const char *rest = after(command, "VERSION");
  it->reads_input = !rest || *rest;
  return 1;
}

/* Reads stdin to its end; 0 when it is too long, does not end in time, or cannot be read. */
static int take_input(struct call *it) {
  if (!it->reads_input) return 1;
  it->spare = (int)call(MEMFD_CREATE, (long)"kuma-cni", 1 /* MFD_CLOEXEC */, 0, 0, 0, 0);
  if (it->spare < 0) return 0;
  long deadline = now() + INPUT_MILLISECONDS;
  while (it->input_length <= INPUT_LIMIT) {
    if (!ready(0, POLLIN, deadline)) return 0;
    word space = INPUT_LIMIT + 1 - it->input_length;
    long n = call(READ, 0, (long)(input(it) + it->input_length), (long)space, 0, 0, 0);
    if (n == -4 /* EINTR */ || n == -11 /* EAGAIN */) continue;
    if (n <= 0) return it->input_ended = n == 0;
    it->input_length += (word)n;
  }
  return 0;
}

/* Connects to the agent if it is root that listens; never waits, also when the queue is full. */
static int connect_to_agent(void) {
  const char *path = text_in(socket_place);
  static struct { unsigned short family; char path[108]; } address = { 1 /* AF_UNIX */, { 0 } };
  struct { int pid; u32 uid, gid; } peer = { 0, 1, 1 };
  u32 length = sizeof peer;
  if (!*path) return NONE;
  for (int i = 0; i < 107 && path[i]; i++) address.path[i] = path[i];
  int agent = (int)call(SOCKET, 1, 1 | 04000 | 02000000 /* non-blocking, closed by exec */, 0, 0, 0, 0);
  if (agent < 0 || call(CONNECT, agent, (long)&address, sizeof address, 0, 0, 0) ||
    call(GETSOCKOPT, agent, 1, 17 /* SO_PEERCRED */, (long)&peer, (long)&length, 0)) return NONE;
  return length == sizeof peer && peer.uid == 0 ? agent : NONE;
}

/* Sends the request, and the namespace's descriptor with its first bytes; 0 when that fails. */
static int send_request(struct call *it, int agent, long deadline) {
  struct { word length; int level, type, descriptor, padding; } control = { 20, 1, 1, NONE, 0 };
  const char *path = it->namespace_path;
  if (path && *path) /* Neither a FIFO nor a terminal may hold us up or become ours. */
    control.descriptor = (int)call(OPENAT, -100, (long)path, 04000 | 0400 | 02000000, 0, 0, 0);
  int sends_namespace = control.descriptor >= 0;
  word length = REQUEST_HEAD + it->environment_length + it->input_length;
  for (int i = 0; i < 4; i++) request[i] = (unsigned char)"KCNI"[i];
  put(request + 4, VERSION_OF_WORDS);
  put(request + 8, (u32)sends_namespace);
  put(request + 12, (u32)it->environment_length);
  put(request + 16, (u32)it->input_length);
  for (word at = 0; at < length;) {
    struct { unsigned char *bytes; word length; } part = { request + at, length - at };
    struct { void *name; word name_length; void *parts; word part_count; void *control;
      word control_length; word flags; } message = { 0, 0, &part, 1, 0, 0, 0 };
    if (at == 0 && sends_namespace) message.control = &control, message.control_length = 24;
    if (!ready(agent, POLLOUT, deadline)) return 0;
    long n = call(SENDMSG, agent, (long)&message, 0x4000 /* MSG_NOSIGNAL */, 0, 0, 0);
    if (n <= 0) return 0;
    at += (word)n;
  }
  return 1;
}

/* Prints a whole answer and ends, as the full plugin would; returns when there is none. */
static void finish_by_answer(int agent, long deadline) {
  word length = 0, wanted = ANSWER_HEAD;
  int untaken = 0; /* An agent that has not even read the call is stopped or hangs. */
  if (!ready(agent, POLLIN, now() + TAKING_MILLISECONDS) &&
    !call(IOCTL, agent, 0x5411 /* SIOCOUTQ */, (long)&untaken, 0, 0, 0) && untaken > 0) return;
  while (length < wanted) {
    if (!ready(agent, POLLIN, deadline)) return;
    long n = call(RECVFROM, agent, (long)(answer + length), (long)(sizeof answer - length), 0, 0, 0);
    if (n <= 0) return;
    length += (word)n;
    if (length < ANSWER_HEAD) continue;
    if (!after((const char *)answer, "KCNA") || get(answer + 4) != VERSION_OF_WORDS ||
      get(answer + 8) != 0 || get(answer + 12) > 1) return;
    wanted = (word)ANSWER_HEAD + get(answer + 16) + get(answer + 20);
    if (wanted > ANSWER_HEAD + OUTPUT_LIMIT || length > wanted) return;
  }
  u32 output = get(answer + 16), words = get(answer + 20);
  word signals = 1ul << 12 | 1ul << 24; /* SIGPIPE, SIGXFSZ: a failed write is an answer, not a death. */
  call(RT_SIGPROCMASK, 0 /* SIG_BLOCK */, (long)&signals, 0, 8, 0, 0);
  int written = write_all(2, answer + ANSWER_HEAD + output, words);
  /* Nobody reads the answer, so nobody may take the call for a success. */
  written = write_all(1, answer + ANSWER_HEAD, output) && written;
  call(EXIT_GROUP, written ? get(answer + 12) : 1, 0, 0, 0, 0, 0);
}

static void ask_agent(struct call *it) {
  /* Else a descriptor of ours would be taken for stdout. */
  for (int i = 0; i < 3; i++) if (call(FCNTL, i, 1 /* F_GETFD */, 0, 0, 0, 0) < 0) return;
  if (!take_environment(it)) return;
  int agent = connect_to_agent();
  if (agent < 0 || !take_input(it)) return;
  long start = now();
  if (send_request(it, agent, start + TAKING_MILLISECONDS)) finish_by_answer(agent, start + ANSWER_MILLISECONDS);
}

__attribute__((used)) static int run(char **arguments, char **environment) {
  static struct call it;
  it.arguments = arguments, it.environment = environment, it.reads_input = 1, it.spare = NONE;
  /* With an argument it is a person's call. Without any, there is no name to go on under. */
  if (arguments[0] && !arguments[1]) ask_agent(&it);
  run_full_plugin(&it);
  return 1;
}

#ifdef SHIM_HOSTED /* For sanitizers and analysers, which need a libc. */
int main(int count, char **arguments, char **environment) {
  (void)count;
  return run(arguments, environment);
}
#else /* Compilers call these two; the empty __asm__ keeps them from doing so in here. */
void *memcpy(void *a, const void *b, word n) { while (n--) { __asm__(""); ((char *)a)[n] = ((const char *)b)[n]; } return a; }
void *memset(void *a, int b, word n) { while (n--) { __asm__(""); ((char *)a)[n] = (char)b; } return a; }
__attribute__((used, noreturn)) static void begin(word *stack) {
  char **arguments = (char **)(stack + 1);
  call(EXIT_GROUP, run(arguments, arguments + stack[0] + 1), 0, 0, 0, 0, 0);
  __builtin_unreachable();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: xor %ebp, %ebp\nmov %rsp, %rdi\nand $-16, %rsp\ncall begin\n");
#else
__asm__(".globl _start\n_start: mov x29, #0\nmov x30, #0\nmov x0, sp\nb begin\n");
#endif
#endif
