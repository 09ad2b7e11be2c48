"""A plugin for QEMU that counts the instructions which an emulated program executes, as the text of its source.

Its own file because it is C: compiled where it is used, by `emulation`, against nothing but the C library. QEMU's
plugins have a header that Debian does not ship; the few functions of it that are used are declared here, as version 1
of the interface has them. Counted is by translated block: QEMU says how many instructions each has, and every run of
the block adds them, on whichever thread. The sum stands in a file that is mapped into memory, so that the emulated
program itself can read it at any moment, by no more than reading eight bytes.
"""

SOURCE = """\
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*call)(unsigned core, void *data),
                                          int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

int qemu_plugin_version = 1;

static _Atomic uint64_t *executed;

static void block_runs(unsigned core, void *instructions)
{
    (void)core;
    atomic_fetch_add_explicit(executed, (uintptr_t)instructions, memory_order_relaxed);
}

static void block_is_new(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_runs, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "into=", 5) != 0)
            continue;
        int file = open(argv[i] + 5, O_RDWR);
        if (file < 0)
            return 1;
        executed = mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (executed == MAP_FAILED)
            return 1;
        qemu_plugin_register_vcpu_tb_trans_cb(id, block_is_new);
        return 0;
    }
    return 1;
}
"""
