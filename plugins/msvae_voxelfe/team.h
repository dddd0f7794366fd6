/* A team of threads that work on one field together: every member runs the same function, on its share, and they wait
 * for each other in between. Included by kernels.c. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { PATIENCE = 4000 }; /* looks before a waiting member gives its processor away */

struct team {
    atomic_long size, waiting, turn;
};

struct member {
    struct team *team;
    long number;
    void (*work)(struct team *, long, void *);
    void *given;
};

/* wait until something is no longer as it was */
static void await(atomic_long *thing, long old) {
    for (long look = 0; atomic_load_explicit(thing, memory_order_acquire) == old; look++)
        if (look > PATIENCE) sched_yield();
}

/* wait until every member is here */
static void together(struct team *t) {
    if (t->size == 1) return;
    const long turn = atomic_load(&t->turn);
    if (atomic_fetch_add(&t->waiting, 1) + 1 == t->size) {
        atomic_store(&t->waiting, 0);
        atomic_store(&t->turn, turn + 1);
    } else await(&t->turn, turn);
}

static void *join_in(void *given) {
    const struct member *m = given;
    await(&m->team->size, 0);
    m->work(m->team, m->number, m->given);
    return NULL;
}

/* work(team, number, given) by a team of this size, or of as many as can be had */
static void teamwork(long size, void (*work)(struct team *, long, void *), void *given) {
    enum { MOST = 256 };
    struct team team = {0, 0, 0};
    struct member members[MOST];
    pthread_t threads[MOST];
    long number = 1;
    for (; number < size && number < MOST; number++) {
        members[number] = (struct member){&team, number, work, given};
        if (pthread_create(&threads[number], NULL, join_in, &members[number])) break;
    }
    atomic_store(&team.size, number);
    work(&team, 0, given);
    while (--number > 0) pthread_join(threads[number], NULL);
}

/* where a member's share of count things begins; the next member's begins where it ends */
INLINE long begin_of(const struct team *t, long number, long count) { return count * number / t->size; }
