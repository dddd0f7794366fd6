/* A team of threads that work on one field together: every member runs the same function, on its share, and they wait
 * for each other in between. Included by kernels.c. */
#include <pthread.h>
#include <stdatomic.h>

enum { PATIENCE = 2000 }; /* looks before a waiting member goes to sleep, so that others may have its processor */

struct team {
    atomic_long size, waiting, turn, next;
    pthread_mutex_t lock;
    pthread_cond_t news;
};

struct member {
    struct team *team;
    long number;
    void (*work)(struct team *, long, void *);
    void *given;
};

/* wait until something is no longer as it was */
static void await(struct team *t, atomic_long *thing, long old) {
    for (long look = 0; look < PATIENCE; look++)
        if (atomic_load_explicit(thing, memory_order_acquire) != old) return;
    pthread_mutex_lock(&t->lock);
    while (atomic_load(thing) == old) pthread_cond_wait(&t->news, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

/* change what others may wait for */
static void announce(struct team *t, atomic_long *thing, long value) {
    pthread_mutex_lock(&t->lock);
    atomic_store(thing, value);
    pthread_cond_broadcast(&t->news);
    pthread_mutex_unlock(&t->lock);
}

/* wait until every member is here; then things are claimed from the first one on again */
static void together(struct team *t) {
    const long turn = atomic_load(&t->turn);
    if (t->size > 1 && atomic_fetch_add(&t->waiting, 1) + 1 < t->size) {
        await(t, &t->turn, turn);
        return;
    }
    atomic_store(&t->next, 0);
    if (t->size == 1) return;
    atomic_store(&t->waiting, 0);
    announce(t, &t->turn, turn + 1);
}

/* The number of a thing that nobody has claimed since members were last together. Whoever is free takes the next one, so
 * that a member whose processor is busy with something else holds up nobody; results do not depend on who does what. */
static long claim(struct team *t) { return atomic_fetch_add(&t->next, 1); }

static void *join_in(void *given) {
    const struct member *m = given;
    await(m->team, &m->team->size, 0);
    m->work(m->team, m->number, m->given);
    return NULL;
}

/* work(team, number, given) by a team of this size, or of as many as can be had */
static void teamwork(long size, void (*work)(struct team *, long, void *), void *given) {
    enum { MOST = 256 };
    struct team team = {0, 0, 0, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
    struct member members[MOST];
    pthread_t threads[MOST];
    long number = 1;
    for (; number < size && number < MOST; number++) {
        members[number] = (struct member){&team, number, work, given};
        if (pthread_create(&threads[number], NULL, join_in, &members[number])) break;
    }
    announce(&team, &team.size, number);
    work(&team, 0, given);
    while (--number > 0) pthread_join(threads[number], NULL);
    pthread_cond_destroy(&team.news);
    pthread_mutex_destroy(&team.lock);
}

/* where a member's share of count things begins; the next member's begins where it ends */
INLINE long begin_of(const struct team *t, long number, long count) { return count * number / t->size; }
