/* One sweep of Monte Carlo moves for many occupations, under a cluster expansion of sites, pairs and triplets. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define MOST 16 /* constituents */

typedef struct {
    int64_t sites, species, pairs, triplets; /* pairs, triplets: entries of each decorated site in the tables */
    const float *values;                     /* (species, species - 1) */
    const float *single;                     /* (decorated) */
    const int64_t *others;                   /* (decorated, pairs) */
    const float *strength;                   /* (decorated, pairs) */
    const int64_t *others3;                  /* (decorated, triplets, 2) */
    const float *strength3;                  /* (decorated, triplets) */
} Terms;

typedef struct {
    uint8_t *x;          /* (sites) */
    const float *fields; /* (sites, species), or NULL */
    float *sigma;        /* (decorated) */
    double energy, start;
    uint64_t state;
} Chain;

static double uniform(Chain *chain) { /* splitmix64; Steele, Lea, Flood 2014 */
    uint64_t z = (chain->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void local(const Terms *terms, const Chain *chain, int64_t site, double *energy) {
    int64_t functions = terms->species - 1;
    for (int64_t v = 0; v < terms->species; v++) energy[v] = 0;
    for (int64_t a = 0; a < functions; a++) {
        int64_t own = site * functions + a;
        double slope = terms->single[own];
        for (int64_t t = 0; t < terms->pairs; t++)
            slope += terms->strength[own * terms->pairs + t] * chain->sigma[terms->others[own * terms->pairs + t]];
        for (int64_t t = 0; t < terms->triplets; t++) {
            const int64_t *two = terms->others3 + 2 * (own * terms->triplets + t);
            slope += terms->strength3[own * terms->triplets + t] * chain->sigma[two[0]] * chain->sigma[two[1]];
        }
        for (int64_t v = 0; v < terms->species; v++) energy[v] += slope * terms->values[v * functions + a];
    }
}

static void put(const Terms *terms, Chain *chain, int64_t site, int64_t new, const double *energy) {
    int64_t old = chain->x[site], functions = terms->species - 1;
    if (new == old) return;
    chain->energy += energy[new] - energy[old];
    if (chain->fields)
        chain->start += chain->fields[site * terms->species + new] - chain->fields[site * terms->species + old];
    chain->x[site] = (uint8_t)new;
    for (int64_t a = 0; a < functions; a++)
        chain->sigma[site * functions + a] = terms->values[new * functions + a];
}

static void heat_bath(const Terms *terms, Chain *chain, int64_t site, double start, double beta) {
    double energy[MOST], sum[MOST], lowest = INFINITY, total = 0;
    local(terms, chain, site, energy);
    for (int64_t v = 0; v < terms->species; v++) {
        sum[v] = beta * energy[v] - (chain->fields ? start * chain->fields[site * terms->species + v] : 0);
        if (sum[v] < lowest) lowest = sum[v];
    }
    for (int64_t v = 0; v < terms->species; v++) sum[v] = total += exp(lowest - sum[v]);
    double drawn = uniform(chain) * total;
    int64_t new = 0;
    while (new < terms->species - 1 && sum[new] <= drawn) new++;
    put(terms, chain, site, new, energy);
}

static void exchange(const Terms *terms, Chain *chain, int64_t site, double start, double beta) {
    double energy[MOST], before = chain->energy, started = chain->start;
    int64_t other = (int64_t)(uniform(chain) * terms->sites), first = chain->x[site], second = chain->x[other];
    if (first == second) return;
    local(terms, chain, site, energy);
    put(terms, chain, site, second, energy);
    local(terms, chain, other, energy);
    put(terms, chain, other, first, energy);
    double change = start * (chain->start - started) - beta * (chain->energy - before);
    if (log(uniform(chain)) < change) return;
    for (int64_t v = 0; v < terms->species; v++) energy[v] = 0;
    put(terms, chain, site, first, energy);
    put(terms, chain, other, second, energy);
    chain->energy = before;
    chain->start = started;
}

/* Return 0, or 1 if there is no memory. occupations (chains, sites), energies and starts (chains) are changed in place;
   fields (chains, sites, species) may be NULL. order: (sites). seeds: (chains). */
int partition_sweep(int64_t chains, const int64_t *shape, const float *values, const float *single,
                    const int64_t *others, const float *strength, const int64_t *others3, const float *strength3,
                    const int64_t *order, const uint64_t *seeds, const float *fields, uint8_t *occupations,
                    double *energies, double *starts, const double *powers, int conserved) {
    Terms terms = {shape[0], shape[1], shape[2], shape[3], values, single, others, strength, others3, strength3};
    int64_t functions = terms.species - 1;
    float *sigma = malloc(sizeof(float) * terms.sites * functions);
    if (!sigma) return 1;
    for (int64_t c = 0; c < chains; c++) {
        Chain chain = {occupations + c * terms.sites, fields ? fields + c * terms.sites * terms.species : NULL, sigma,
                       energies[c], starts[c], seeds[c]};
        for (int64_t i = 0; i < terms.sites; i++)
            for (int64_t a = 0; a < functions; a++)
                sigma[i * functions + a] = values[chain.x[i] * functions + a];
        for (int64_t i = 0; i < terms.sites; i++)
            (conserved ? exchange : heat_bath)(&terms, &chain, order[i], powers[0], powers[1]);
        energies[c] = chain.energy;
        starts[c] = chain.start;
    }
    free(sigma);
    return 0;
}
