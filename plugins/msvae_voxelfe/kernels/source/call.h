/* What a caller gives: arrays with the numbers that they hold, which are held against what the kernels will touch before
 * they touch any. Callers learn the arrays' types, names and order from `voxelfe_arrays`, and how much memory to bring
 * from `voxelfe_memory`. Included by kernels.c. */

/* u, force, ...: see `struct product`; x, r: `struct descent`; symbol, ...: `struct inverse`; work, rows, units: the memory
 * of `struct crew`. norms: of r, and the one to reach. macro: of a mere product */
#define ARRAYS(ARRAY)                                                                                                 \
    ARRAY(real, u) ARRAY(real, force) ARRAY(long, layout) ARRAY(real, material) ARRAY(long, grid) ARRAY(real, spacing) \
    ARRAY(real, macro) ARRAY(real, x) ARRAY(real, r) ARRAY(real, symbol) ARRAY(long, factors) ARRAY(real, tables)      \
    ARRAY(long, starts) ARRAY(double, norms) ARRAY(real, work) ARRAY(real, rows) ARRAY(real, edges)                    \
    ARRAY(double, sums) ARRAY(double, units)

#define NUMBERS(type, name) \
    struct {                \
        type *at;           \
        long size;          \
    } name;
#define NEEDED(type, name) long name;
#define NAMED(type, name) #type " " #name " "

/* limit: of steps. wanted: how many numbers an array should have held, where a call fails for that */
struct call {
    ARRAYS(NUMBERS)
    long threads, pieces, limit, wanted;
};

/* the numbers of each array; 0 where it is not looked at */
struct needs {
    ARRAYS(NEEDED)
};

const char *voxelfe_arrays(void) { return ARRAYS(NAMED); }

/* memory of every member: work of the transforms and rows of the elements; and of all together */
struct memory {
    long work, rows, edges, sums, units;
};

INLINE long larger(long a, long b) { return a > b ? a : b; }

static struct memory memory_of(const long *n, long components, long pieces) {
    const long groups = (n[2] + LANES - 1) / LANES, slabs = (n[1] + LANES - 1) / LANES;
    const long line = larger(larger(n[1], groups * LANES), 3 * n[0]), longest = larger(larger(n[0], n[1]), n[2]);
    return (struct memory){
        .work = (slabs * LANES * groups + line + 10 * longest + 2 + 1) * WIDTH, /* see `bench_of`, `mirrored` */
        .rows = 30 * (2 * n[2] / WIDTH + 2) * WIDTH + WIDTH,                    /* see `apply` */
        .edges = pieces > 1 ? pieces * components * 2 * n[1] * n[2] : 0,
        .sums = 20 * pieces,
        .units = slabs * ((n[2] + UNIT - 1) / UNIT),
    };
}

/* sizes[5]: of work, rows, edges, sums and units, for this many threads */
void voxelfe_memory(const long *grid, long components, long threads, long pieces, long *sizes) {
    const struct memory m = memory_of(grid, components, pieces);
    sizes[0] = threads * m.work;
    sizes[1] = threads * m.rows;
    sizes[2] = m.edges;
    sizes[3] = m.sums;
    sizes[4] = m.units;
}

/* 0 if all arrays hold what they need, else -1 - the number of the first that does not */
static long first_misfit(struct call *c, const struct needs *need) {
    long number = 0;
#define CHECK(type, name)                           \
    if (need->name && c->name.size != need->name) { \
        c->wanted = need->name;                     \
        return -1 - number;                         \
    }                                               \
    number++;
    ARRAYS(CHECK)
#undef CHECK
    return 0;
}

enum { FACTORS = 64, NO_GRID = -1000 }; /* factors of an axis; what calls return that are wrong in their plain numbers */

/* numbers in the table of a transform of length n, as `fourier` reads them; -1 if the factors are not those of n */
static long table_size(long n, const long *factors) {
    long size = 0;
    for (long k = 0, left = n; left > 1; k++) {
        const long radix = k < FACTORS ? factors[k] : 0;
        if (radix < 2 || left % radix) return -1;
        left /= radix;
        const long half = radix / 2 + 1, matrix = half * ((half + BLOCK - 1) / BLOCK * BLOCK);
        size += (radix > 5 && radix != 8 ? 2 * matrix : 0) + 4 * (left - 1) * (radix - 1);
    }
    return size;
}

/* whether the factors are those of the grid, and the tables as long as they are read */
static int tables_fit(const struct call *c) {
    for (int axis = 0; axis < 3; axis++) {
        const long n = c->grid.at[axis], length = c->grid.at[3 + axis] == PERIODIC ? n : 2 * (n - 1);
        const long size = length < 1 ? -1 : table_size(length, c->factors.at + FACTORS * axis);
        for (int inverse = 0; inverse < 2; inverse++) {
            const long start = c->starts.at[axis + 3 * inverse];
            if (size < 0 || start < 0 || start + size > c->tables.size) return 0;
        }
    }
    return 1;
}

/* 0 if a call's arrays are as large as they have to be, else what it returns instead of working. laws: 0 if there is no
 * product in it. inverse: whether the homogeneous problem is */
static long misfit(struct call *c, int components, int laws, int inverse) {
    struct needs need = {.layout = 2, .grid = 6, .spacing = laws ? 3 : 0, .macro = inverse ? 0 : 6 * components,
                         .factors = inverse ? 3 * FACTORS : 0, .starts = inverse ? 6 : 0,
                         .norms = laws && inverse ? 2 : 0};
    long found = first_misfit(c, &need);
    if (found) return found;
    const long *n = c->grid.at, *beyond = n + 3, *layout = c->layout.at, voxels = n[0] * n[1] * n[2];
    if (n[0] < 1 || n[1] < 1 || n[2] < 1 || c->threads < 1 || c->pieces < 1) return NO_GRID;
    if (laws && c->pieces > n[0]) return NO_GRID; /* an empty piece leaves no edge for the next one */
    const struct memory m = memory_of(n, components, c->pieces);
    const long slabs = (n[1] + LANES - 1) / LANES, plane = inverse ? slabs * n[2] * WIDTH : 2 * n[1] * n[2];
    const long reach = (components - 1) * layout[0] + (n[0] - 1) * layout[1] + plane;
    need.force = larger(reach, c->force.size); /* planes may lie further apart than they need */
    need.u = laws ? 2 * components * voxels : 0;
    need.material = laws * voxels;
    need.rows = laws ? c->threads * m.rows : 0;
    need.edges = laws ? m.edges : 0;
    need.sums = laws ? m.sums : 2 * c->pieces;
    if (inverse) {
        if ((size_t)c->force.at % sizeof(vec) || layout[0] % WIDTH || layout[1] % WIDTH) return NO_GRID;
        need.r = 2 * components * voxels;
        need.x = laws ? need.r : 0;
        need.symbol = slabs * known(beyond[2], n[2]) * known(beyond[0], n[0]) * (components == 1 ? 1 : 6) * LANES + WIDTH;
        need.tables = tables_fit(c) ? c->tables.size : c->tables.size + 1;
        need.work = c->threads * m.work;
        need.units = m.units;
    }
    return first_misfit(c, &need);
}
